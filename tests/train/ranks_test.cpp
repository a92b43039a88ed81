// Runs of several ranks, as threads: the bits of one, whatever their number; and what one of them cannot do.
#include "tests/support/fake_nccl.h"
#include "tests/support/thread_ranks.h"
#include "tests/train/checkpoint_cases.h"
#include "tests/train/run_rig.h"
#include "train/run_metrics.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

// With more blocks of the gradients' norm (kSumBlock) than ranks, so that each has some, and not all the same number.
TrainConfig shared_run() {
  TrainConfig cfg = tiny_run();
  cfg.model.embedding_dim = 128;
  cfg.model.num_blocks = 3;
  cfg.train.steps = 5;
  cfg.train.batch_size = 16;
  cfg.checkpoint = {.every = 2, .keep = 3};
  cfg.eval = {.every = 3, .batches = 3};
  return cfg;
}

std::vector<std::string> train(int ranks, const fs::path& dir, TrainConfig cfg, std::optional<i64> stop_at = {},
                               const std::function<void(Communicator&, TrainConfig&)>& change = {}) {
  cfg.resolve();
  return run_ranks(ranks, [&](Communicator& r) {
    TrainConfig mine = cfg;
    if (change) change(r, mine);
    Trainer(dir, mine, {"test"}, &r).run(stop_at);
  });
}

void expect_same_files(const fs::path& a, const fs::path& b) {
  for (const char* file : {"manifest.json", "params.safetensors", "optimizer-00000.safetensors", "state.json"})
    EXPECT_EQ(read_file(a / file), read_file(b / file)) << file;
}

class RanksTest : public testing::Test {
 protected:
  // The run of one rank that all others are compared with.
  static fs::path reference() {
    static const TempDir dir;
    static const bool made = [] { return run_in(dir.path(), shared_run()) == RunOutcome::finished; }();
    EXPECT_TRUE(made);
    return dir.path();
  }
  static void expect_as_reference(const fs::path& dir) {
    EXPECT_EQ(final_weights(dir), final_weights(reference()));
    for (const char* key : {"loss", "grad_norm", "validation_loss"})
      EXPECT_EQ(metric(dir, key), metric(reference(), key)) << key;
  }
};

TEST_F(RanksTest, AnyNumberHasTheBitsOfOne) {
  for (const int ranks : {2, 4, 8}) {
    TempDir dir;
    ASSERT_THAT(train(ranks, dir.path(), shared_run()), Each("")) << ranks;
    expect_as_reference(dir.path());
    expect_same_files(dir / "checkpoints/step_00000005", reference() / "checkpoints/step_00000005");
  }
}

TEST_F(RanksTest, AnUnsharedOptimizerHasThemToo) {
  TempDir dir;
  TrainConfig cfg = shared_run();
  cfg.parallel.shard_optimizer = false;
  ASSERT_THAT(train(4, dir.path(), cfg), Each(""));
  expect_as_reference(dir.path());
}

// The whole schedule of a step, over NCCL's calls.
TEST_F(RanksTest, TheScheduleOfGpusHasThemToo) {
  TempDir dir;
  TrainConfig cfg = shared_run();
  cfg.resolve();
  FakeWire wire;
  ASSERT_THAT(run_ranks(4,
                        [&](Communicator& host) {
                          const auto ranks = make_nccl_communicator(host, std::make_unique<FakeNccl>(wire));
                          Trainer(dir.path(), cfg, {"test"}, ranks.get()).run({});
                        }),
              Each(""));
  expect_as_reference(dir.path());
}

TEST_F(RanksTest, ResumedOnAnotherNumber) {
  TempDir dir;
  ASSERT_THAT(train(4, dir.path(), shared_run(), 2), Each(""));
  ASSERT_THAT(train(1, dir.path(), shared_run(), 3), Each(""));
  TrainConfig unshared = shared_run();
  unshared.parallel.shard_optimizer = false;
  ASSERT_THAT(train(2, dir.path(), unshared, 4), Each(""));
  ASSERT_THAT(train(8, dir.path(), shared_run()), Each(""));
  expect_as_reference(dir.path());
}

TEST_F(RanksTest, DamageThatOneSeesIsSkippedByAll) {
  TempDir dir;
  ASSERT_THAT(train(2, dir.path(), shared_run(), 4), Each(""));
  const fs::path file = dir / "checkpoints/step_00000004/optimizer-00000.safetensors";
  std::string bytes = read_file(file);
  bytes[bytes.size() - 5] ^= 1;
  write_text(file, bytes);
  ASSERT_THAT(train(4, dir.path(), shared_run()), Each(""));
  expect_as_reference(dir.path());
}

TEST_F(RanksTest, ADiskThatIsFullForOneLosesNothing) {
  TempDir dir;
  std::atomic<int> refused = 0;
  {
    const HookScope full([&](const char* call) {  // for the third file that is written of the checkpoint of step 4
      const bool saving = std::string(call) == "fsync" && fs::exists(dir / "checkpoints/step_00000004.tmp-write");
      return saving && ++refused == 3 ? ENOSPC : 0;
    });
    ASSERT_THAT(train(4, dir.path(), shared_run()), Each(""));
  }
  EXPECT_GE(refused, 3);
  EXPECT_FALSE(fs::exists(dir / "checkpoints/step_00000004"));
  expect_as_reference(dir.path());
}

TEST_F(RanksTest, FastIsAlikeButNotTheSame) {
  TempDir one, two;
  TrainConfig cfg = shared_run();
  cfg.parallel.reduction = Reduction::fast;
  ASSERT_THAT(train(1, one.path(), cfg), Each(""));
  ASSERT_THAT(train(2, two.path(), cfg), Each(""));
  const auto exact = metric(reference(), "loss");
  for (const auto& dir : {one.path(), two.path()}) {
    const auto fast = metric(dir, "loss");
    ASSERT_EQ(fast.size(), exact.size());
    for (std::size_t i = 0; i < fast.size(); ++i) EXPECT_NEAR(fast[i], exact[i], 1e-3);
  }
  EXPECT_NE(final_weights(two.path()), final_weights(reference()));
}

TEST_F(RanksTest, TheProfileTellsTheTimeOfTheExchange) {
  for (const int ranks : {1, 2}) {
    TempDir dir;
    TrainConfig cfg = shared_run();
    cfg.log.profile = true;
    ASSERT_THAT(train(ranks, dir.path(), cfg), Each(""));
    for (const StepMetrics& s : RunMetrics::read(dir / "metrics.jsonl").steps) {
      EXPECT_EQ(s.class_seconds.at("exchange") > 0, ranks > 1) << s.step;
      EXPECT_GE(s.class_seconds.at("idle"), -0.02 * s.seconds) << "counted twice";
      double sum = 0;
      for (const auto& [name, seconds] : s.class_seconds) sum += seconds;
      EXPECT_NEAR(sum, s.seconds, 0.02 * s.seconds);
    }
    expect_as_reference(dir.path());
  }
}

TEST_F(RanksTest, AnotherConfigIsNamed) {
  TempDir dir;
  const auto change = [](Communicator& r, TrainConfig& cfg) {
    if (r.rank() == 2) cfg.optimizer.lr = 0.25;
  };
  EXPECT_THAT(train(4, dir.path(), shared_run(), {}, change),
              Each(AllOf(HasSubstr("rank 2"), HasSubstr("optimizer.lr is 0.25 there, 0.003 on rank 0"))));
}

TEST_F(RanksTest, OtherDataAreNamed) {
  TempDir dir, other;
  std::string text;
  for (const std::string& document : sample_documents(300)) text += Json{{"text", document}}.dump() + "\n";
  write_text(other / "text.jsonl", text);
  build_dataset({.inputs = {(other / "text.jsonl").string()},
                 .tokenizer = sample_tokenizer_path(),
                 .out = other / "data",
                 .validation_fraction = 0.1});
  const auto change = [&](Communicator& r, TrainConfig& cfg) {
    if (r.rank() == 1) cfg.data.train = (other / "data").string();
  };
  EXPECT_THAT(train(2, dir.path(), shared_run(), {}, change),
              Each(AllOf(HasSubstr("rank 1"), HasSubstr("data.train"))));
  const auto missing = [&](Communicator& r, TrainConfig& cfg) {
    if (r.rank() == 1) cfg.data.train = (other / "nothing").string();
  };
  EXPECT_THAT(train(2, dir.path(), shared_run(), {}, missing),
              Each(AllOf(HasSubstr("rank 1"), HasSubstr("data.train: "), HasSubstr("nothing"))));
}

// Of some tensor: one bit, on one rank, between the update of step 2 and that of step 3.
using Plant = std::function<void(Trainer&, int rank)>;
std::vector<std::string> train_with_damage(int ranks, TrainConfig cfg, const Plant& plant) {
  TempDir dir;
  cfg.resolve();
  EXPECT_THAT(train(ranks, dir.path(), cfg, 2), Each(""));
  return run_ranks(ranks, [&](Communicator& r) {
    Trainer trainer(dir.path(), cfg, {"test"}, &r);
    plant(trainer, r.rank());
    trainer.run({});
  });
}

void flip(const Tensor& t, i64 element) { t.data[element * size_of(t.dtype)] ^= std::byte{1}; }

// The first element of a parameter that the rank updates, or that it does not; -1 for none.
i64 element_of(const TrainState& s, std::size_t tensor, bool own) {
  const auto place = s.params.place(tensor);
  for (i64 i = 0; i < s.params.all()[tensor].master.size(); ++i) {
    const auto has = [&](const Piece& p) { return p.begin <= place + i && place + i < p.end; };
    if (std::any_of(s.shards.pieces().begin(), s.shards.pieces().end(), has) == own) return i;
  }
  return -1;
}

std::size_t number_of(const TrainState& s, const std::string& name) {
  const auto& all = s.params.all();
  return static_cast<std::size_t>(
      std::find_if(all.begin(), all.end(), [&](const ParamInfo& p) { return p.name == name; }) - all.begin());
}

TrainConfig checked_run(Precision precision, i64 interval) {
  TrainConfig cfg = shared_run();
  cfg.run.precision = precision;
  cfg.parallel.check_interval = interval;
  return cfg;
}

const char* const kSomeTensors[] = {"embedding.weight", "blocks.1.ffn.proj_down.weight", "lm_head.weight"};

TEST_F(RanksTest, AWeightThatIsNotAsItsOwnerMadeItIsNamedWithItsRank) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const int ranks : {2, 4})
      for (const std::string name : kSomeTensors) {
        std::atomic<int> victim = -1;
        const auto plant = [&](Trainer& t, int rank) {
          const std::size_t tensor = number_of(t.state(), name);
          const i64 element = element_of(t.state(), tensor, /*own=*/false);
          int nobody = -1;
          if (element >= 0 && victim.compare_exchange_strong(nobody, rank))
            flip(t.state().params.all()[tensor].param.value, element);
        };
        const auto wrong = train_with_damage(ranks, checked_run(precision, 3), plant);
        EXPECT_THAT(wrong[0], AllOf(HasSubstr("step 3"), HasSubstr(fmt::format("'{}'", name)),
                                    HasSubstr(fmt::format("differs on rank {} (thread) from rank ", victim.load())),
                                    HasSubstr("which updates it")))
            << ranks;
      }
}

// Nobody else has what it was made of, and the next update would spread it to all.
TEST_F(RanksTest, AWeightThatChangesWhereItIsUpdatedIsNamedWithItsRank) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const std::string name : kSomeTensors)
      for (const bool replica : {false, true}) {
        std::atomic<int> owner = -1;
        const auto plant = [&](Trainer& t, int rank) {
          const TrainState& s = t.state();
          const std::size_t tensor = number_of(s, name);
          const i64 element = element_of(s, tensor, /*own=*/true);
          int nobody = -1;
          if (element < 0 || !owner.compare_exchange_strong(nobody, rank)) return;
          const i64 place = s.params.place(tensor) + element;
          for (const Piece& p : s.shards.pieces())
            if (p.begin <= place && place < p.end && s.own_masters.rows > 0 && !replica)
              return flip(s.own_masters, p.at + place - p.begin);
          flip(s.params.all()[tensor].param.value, element);
        };
        const auto wrong = train_with_damage(2, checked_run(precision, 3), plant);
        EXPECT_THAT(wrong[1], AllOf(HasSubstr("step 3"), HasSubstr(fmt::format("'{}'", name)),
                                    HasSubstr(fmt::format("has changed on rank {} (thread)", owner.load()))));
      }
}

TEST_F(RanksTest, AMomentThatChangesIsNamedWithItsRank) {
  const auto plant = [&](Trainer& t, int rank) {
    if (rank == 1) flip(t.state().optimizer.flat().v, t.state().shards.owned() - 1);
  };
  EXPECT_THAT(train_with_damage(2, checked_run(Precision::f32, 1), plant),
              Each(AllOf(HasSubstr("'v.lm_head.weight' has changed on rank 1"), HasSubstr("step 3"))));
}

// Without owners the difference stays, and the majority decides.
TEST_F(RanksTest, AWeightThatDiffersWhereAllUpdateAllIsNamedWithItsRank) {
  TrainConfig cfg = checked_run(Precision::f32, 5);
  cfg.parallel.shard_optimizer = false;
  const auto plant = [&](Trainer& t, int rank) {
    if (rank == 3) flip(t.state().params.all()[0].param.value, 4);
  };
  EXPECT_THAT(train_with_damage(4, cfg, plant),
              Each(AllOf(HasSubstr("step 5"), HasSubstr("differs on rank 3 (thread) from all others"))));
}

TEST_F(RanksTest, TheComparisonFindsNothingWhereNothingIs) {
  TempDir dir;
  ASSERT_THAT(train(4, dir.path(), checked_run(Precision::f32, 1), 2), Each(""));
  ASSERT_THAT(train(2, dir.path(), checked_run(Precision::f32, 2)), Each(""));
  expect_as_reference(dir.path());
  TempDir rounded;
  ASSERT_THAT(train(4, rounded.path(), checked_run(Precision::bf16, 1)), Each(""));
}

// Formulas of docs/scaling.md against what the schedule sends over NCCL's calls.
TEST_F(RanksTest, WhatIsSentIsWhatTheFormulasSay) {
  for (const bool shared : {true, false})
    for (const Reduction reduction : {Reduction::exact, Reduction::fast})
      for (const Precision precision : {Precision::f32, Precision::bf16}) {
        TempDir dir;
        TrainConfig cfg = checked_run(precision, 0);
        cfg.parallel.shard_optimizer = shared;
        cfg.parallel.reduction = reduction;
        cfg.checkpoint.every = cfg.eval.every = 0;
        cfg.resolve();
        FakeWire wire;
        std::atomic<i64> sent = 0;
        double expected = 0;
        const auto wrong = run_ranks(4, [&](Communicator& host) {
          const auto ranks = make_nccl_communicator(host, std::make_unique<FakeNccl>(wire));
          Trainer trainer(dir.path(), cfg, {"test"}, ranks.get());
          const i64 before = ranks->sent_bytes();
          trainer.run({});
          sent += ranks->sent_bytes() - before;
          if (ranks->first()) expected = exchanged_bytes(trainer.state(), cfg).total();
        });
        EXPECT_THAT(wrong, Each(""));
        EXPECT_NEAR(static_cast<double>(sent) / 4 / static_cast<double>(cfg.train.steps), expected, 8)
            << shared << " " << static_cast<int>(reduction) << " " << static_cast<int>(precision);
      }
}

TEST_F(RanksTest, WorkThatCannotBeSharedIsRefused) {
  TempDir dir;
  EXPECT_THAT(train(3, dir.path(), shared_run()), Each(HasSubstr("8 slots cannot be shared by 3 ranks")));
}

}  // namespace
}  // namespace xlstm
