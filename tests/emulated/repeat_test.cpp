// Steps that are recorded: what a GPU would not repeat is a fault.
#include <array>

#include "kernels/cuda/launch.h"
#include "tests/emulated/support.h"

namespace xlstm {
namespace {

using namespace dialect;
using testing::HasSubstr;

void store(float* to, float x) {
  if (thread_index() == 0) global_store(to, x);
}

class Repeated : public testing::Test {
 protected:
  // The fault of three steps; "" when there is none.
  template <class F>
  std::string fault_of_steps(F&& step) {
    try {
      for (int i = 0; i < 3; ++i) gpu_->repeat([&] { step(i); });
    } catch (const emulator::EmulatorFault& fault) {
      return fault.what();
    }
    return "";
  }
  void write(float x) { launch(ctx_, {.threads = 32}, &store, reinterpret_cast<float*>(memory_), x); }

  std::unique_ptr<Gpu> gpu_ = open_gpu(0);
  Context ctx_{.device = Device::cuda, .gpu = gpu_.get()};
  std::byte* memory_ = gpu_->allocate(256);
};

TEST_F(Repeated, TheSameLaunches) {
  EXPECT_EQ(fault_of_steps([&](int) { write(1); }), "");
  EXPECT_EQ(fault_of_steps([&](int i) { i == 0 ? write(2) : write(1); }),
            "what a step launched is not what was recorded: launch 1 of 1 has other arguments");
}

TEST_F(Repeated, WhatIsCalledFirstIsNotRecorded) {
  EXPECT_EQ(fault_of_steps([&](int i) { i == 0 ? write(2) : write(1); }), "");
}

TEST_F(Repeated, OtherNumbersOrMoreLaunches) {
  EXPECT_THAT(fault_of_steps([&](int i) { write(static_cast<float>(i)); }), HasSubstr("other arguments"));
}
TEST_F(Repeated, MoreLaunches) {
  EXPECT_THAT(fault_of_steps([&](int i) {
                for (int j = 0; j < i; ++j) write(1);
              }),
              HasSubstr("2 launches, not 1"));
}
TEST_F(Repeated, CopiesDoNotBelongThere) {
  float x = 0;
  EXPECT_THAT(fault_of_steps([&](int) { gpu_->copy_in(memory_, &x, 4); }), HasSubstr("copy_in in a step"));
}

}  // namespace
}  // namespace xlstm
