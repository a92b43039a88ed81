// A run that does not fit is refused before it begins, with settings that do.
#include "train/fit.h"

#include "dist/nccl.h"
#include "tests/train/loaded_rig.h"
#include "tests/train/run_rig.h"
#include "train/samples.h"

namespace xlstm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Fit : testing::Test {
  Fit() {
    cfg.train.batch_size = 16, cfg.train.micro_batch_size = 8, cfg.train.context_length = 64;
    cfg.parallel.reduction_slots = 2;
    cfg.resolve();
  }
  i64 needed(Device device) const { return total_bytes(measure_training(cfg, device), device); }
  // What no setting changes
  i64 fixed() const {
    i64 bytes = 0;
    for (const ArenaSize& size : measure_training(cfg, Device::cpu))
      if (size.name == "thread scratch" || size.name == "program and libraries") bytes += size.bytes;
    return bytes;
  }
  std::string refusal(Device device, const AvailableMemory& available) const {
    try {
      plan_within(cfg, device, available);
      return "";
    } catch (const UserError& e) {
      return e.what();
    }
  }
  TrainConfig cfg = tiny_run();
};

TEST_F(Fit, ExactlyWhatIsPlannedIsEnough) {
  const i64 bytes = needed(Device::cpu);
  EXPECT_EQ(refusal(Device::cpu, {.host = bytes}), "");
  EXPECT_THAT(refusal(Device::cpu, {.host = bytes - 1}),
              AllOf(HasSubstr("this run needs"), HasSubstr("of memory"),
                    HasSubstr("--set train.recompute=cheap or --set train.micro_batch_size=4 would fit")));
}

TEST_F(Fit, PromptsArePartOfThePlan) {
  const i64 without = needed(Device::cpu);
  cfg.eval.prompts = {"the state", "gates of the memory"};
  const i64 planned = needed(Device::cpu) - without;
  const LoadedModel& model = loaded_model();
  const Sampling sampling(cfg, {model.model(), model.activation_type(), model.machine()}, sample_tokenizer_path());
  EXPECT_GE(planned, sampling.bytes());
  EXPECT_LE(planned, 2 * sampling.bytes());
  const auto ids = encode_prompts(sample_tokenizer(), cfg.eval.prompts);
  Arena none = Arena::measuring("scratch");
  EXPECT_EQ(generation_bytes(model.model(), model.activation_type(), 2,
                             static_cast<i64>(std::max(ids[0].size(), ids[1].size())), model.machine().context(none)),
            sampling.bytes());
}

TEST_F(Fit, WhatIsAdvisedFitsAndTheNextDoesNot) {
  for (const i64 percent : {90, 70, 60, 50}) {
    const AvailableMemory available{.host = fixed() + (needed(Device::cpu) - fixed()) * percent / 100};
    const std::string text = refusal(Device::cpu, available);
    for (const i64 size : {4, 2, 1}) {
      TrainConfig smaller = cfg;
      smaller.train.micro_batch_size = size;
      const bool fits = total_bytes(measure_training(smaller, Device::cpu)) <= available.host;
      const std::string advice = fmt::format("micro_batch_size={} would fit", size);
      if (fits) {
        EXPECT_THAT(text, HasSubstr(advice)) << percent;
        break;
      }
      EXPECT_THAT(text, Not(HasSubstr(advice))) << percent;
    }
  }
}

TEST_F(Fit, RanksOfOneHostShareItsMemory) {
  const i64 bytes = total_bytes(measure_training(cfg, Device::cpu, nullptr, {0, 2}));
  const auto of_two = [&](i64 there) {
    try {
      plan_within(cfg, Device::cpu, {.host = there, .sharing = 2}, nullptr, {0, 2});
      return std::string();
    } catch (const UserError& e) {
      return std::string(e.what());
    }
  };
  EXPECT_EQ(of_two(2 * bytes), "");
  EXPECT_THAT(of_two(2 * bytes - 1),
              AllOf(HasSubstr("for the largest of 2 ranks on this host"), HasSubstr("would fit")));
}

TEST_F(Fit, OneRankOfAHostDrawsFromPrompts) {
  const auto needed_by_two = [&] { return host_bytes(measure_training(cfg, Device::cpu, nullptr, {0, 2}), 2); };
  const i64 without = needed_by_two(), alone = needed(Device::cpu);
  cfg.eval.prompts = {"the state"};
  const i64 prompts = needed(Device::cpu) - alone;
  ASSERT_GT(prompts, 0);
  EXPECT_EQ(needed_by_two(), without + prompts);
  const AvailableMemory enough{.host = without + prompts, .sharing = 2};
  plan_within(cfg, Device::cpu, enough, nullptr, {0, 2});
  const AvailableMemory less{.host = without + prompts - 1, .sharing = 2};
  EXPECT_THROW(plan_within(cfg, Device::cpu, less, nullptr, {0, 2}), UserError);
}

TEST_F(Fit, RanksOnGpusLeaveRoomForTheirLibrary) {
  const auto reserved = [&](Device device, int ranks) {
    i64 bytes = 0;
    for (const ArenaSize& size : measure_training(cfg, device, nullptr, {0, ranks}))
      if (size.name == "NCCL, reserved") bytes += size.bytes;
    return bytes;
  };
  EXPECT_EQ(reserved(Device::cuda, 1), 0);
  EXPECT_EQ(reserved(Device::cpu, 2), 0);
  EXPECT_EQ(reserved(Device::cuda, 2), i64{3} << 29);
  EXPECT_EQ(nccl_bytes(8), i64{9} << 29);
  EXPECT_EQ(nccl_bytes(1024), nccl_bytes(8));
  const i64 bytes = total_bytes(measure_training(cfg, Device::cuda, nullptr, {0, 2}), Device::cuda);
  const auto of_two = [&](i64 there) {
    plan_within(cfg, Device::cuda, {.host = i64{1} << 40, .device = there}, nullptr, {0, 2});
  };
  of_two(bytes);
  EXPECT_THROW(of_two(bytes - 1), UserError);
}

TEST_F(Fit, NothingHelpsWhereTheWeightsDoNotFit) {
  EXPECT_THAT(refusal(Device::cpu, {.host = 1000}), HasSubstr("a smaller model or context is needed"));
}

TEST_F(Fit, ADeviceHasItsOwnMemory) {
  const AvailableMemory none{.host = i64{1} << 40, .device = needed(Device::cuda) - 1};
  EXPECT_THAT(refusal(Device::cuda, none), HasSubstr("GPU memory"));
  EXPECT_EQ(refusal(Device::cuda, {.host = i64{1} << 40, .device = needed(Device::cuda)}), "");
}

}  // namespace
}  // namespace xlstm
