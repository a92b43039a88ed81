#include "kernels/thread_scratch.h"

#include <memory>
#include <new>

namespace xlstm {

namespace {

constexpr std::align_val_t kAlignment{64};

struct Release {
  void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
};

}  // namespace

std::byte* thread_scratch(i64 bytes) {
  thread_local std::unique_ptr<std::byte, Release> memory;
  thread_local i64 size = 0;
  if (bytes > size) {
    memory.reset();  // first: both need not fit
    memory.reset(static_cast<std::byte*>(::operator new(static_cast<std::size_t>(bytes), kAlignment)));
    size = bytes;
  }
  return memory.get();
}

}  // namespace xlstm
