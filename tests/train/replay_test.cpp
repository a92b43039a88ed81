// Evidence of skipped updates: whole, bounded, and good for computing the update again to the bit.
#include "train/replay.h"

#include <set>
#include <thread>

#include "tests/support/thread_ranks.h"
#include "tests/train/checkpoint_cases.h"
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

TrainConfig skipping_run() {
  TrainConfig cfg = tiny_run();
  cfg.train.steps = 26;
  cfg.optimizer.lr = 1e-2;
  cfg.guard = {
      .sigmas = 0.5, .window = 4, .max_skips = 2, .action = GuardAction::rollback, .max_rollbacks = 100, .keep = 3};
  cfg.checkpoint.keep = 1;  // those of the time of the evidence are gone
  return cfg;
}

std::vector<fs::path> evidence_in(const fs::path& run) {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(run / "anomalies"))
    if (entry.path().filename().string().starts_with("step_")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

Replay replay_alone(const fs::path& folder) { return replay_anomaly(folder, 0, *make_single_process_communicator()); }

class ReplayTest : public testing::Test {
 protected:
  static fs::path run() {
    static const TempDir dir;
    static const bool made = [] { return run_in(dir.path(), skipping_run()) == RunOutcome::finished; }();
    EXPECT_TRUE(made);
    return dir.path();
  }
};

TEST_F(ReplayTest, EveryEvidenceIsReplayedToTheBit) {
  const std::vector<fs::path> all = evidence_in(run());
  ASSERT_GE(all.size(), 3u);
  for (const fs::path& folder : all) {
    const Replay r = replay_alone(folder);
    EXPECT_THAT(r.differences, IsEmpty()) << folder;
    EXPECT_EQ(r.now.reason, SkipReason::norm);
    EXPECT_GT(r.now.grad_norm, r.recorded.norm_limit);
    EXPECT_EQ(r.first_not_finite, "");
  }
}

// Norms of parameters make up the norm of all; text and tokens are those of the data set at that place.
TEST_F(ReplayTest, EvidenceSaysWhatWasSeen) {
  const fs::path folder = evidence_in(run()).front();
  const Anomaly a = read_anomaly(folder);
  double squares = 0;
  for (const NamedNorm& n : layer_norms(a.norms)) squares += n.norm * n.norm;
  EXPECT_NEAR(std::sqrt(squares), a.grad_norm, 1e-12 * a.grad_norm);
  EXPECT_EQ(layer_norms(a.norms).size(), 4u);  // embedding, two blocks, head
  EXPECT_EQ(a.gates.size(), 2u);
  const Dataset data = Dataset::open(tiny_dataset());
  Loader loader(data, {.context_length = 24, .batch_size = 8, .first_sequence = a.batch.first_sequence, .seed = 1});
  TokenBatch batch;
  loader.next(batch);
  EXPECT_EQ(a.batch.ids, batch.ids);
  EXPECT_EQ(a.batch.targets, batch.targets);
  EXPECT_EQ(a.batch.starts, batch.starts);
  std::istringstream lines(read_file(folder / "text.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  std::vector<int> ids(batch.ids.begin(), batch.ids.begin() + 24);
  ids.push_back(batch.targets[23]);
  EXPECT_EQ(Json::parse(line).at("sequence"), a.batch.first_sequence);
  EXPECT_EQ(Json::parse(line).at("text"), Json::parse(to_text(Json(sample_tokenizer().decode(ids)))));
}

TEST_F(ReplayTest, RowsBeyondTheLimitAreRemoved) {
  std::set<std::string> rows;
  for (const fs::path& folder : evidence_in(run())) rows.insert(read_anomaly(folder).weights);
  EXPECT_EQ(rows.size(), 3u);
  std::set<std::string> weights;
  for (const auto& entry : fs::directory_iterator(run() / "anomalies/weights"))
    weights.insert(entry.path().filename().string());
  EXPECT_EQ(weights, rows);
}

TEST_F(ReplayTest, RanksWriteTheSameEvidence) {
  TempDir dir;
  TrainConfig cfg = skipping_run();
  cfg.resolve();
  ASSERT_THAT(run_ranks(4, [&](Communicator& r) { Trainer(dir.path(), cfg, {"test"}, &r).run({}); }), Each(""));
  const std::vector<fs::path> one = evidence_in(run()), four = evidence_in(dir.path());
  ASSERT_EQ(one.size(), four.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    Anomaly a = read_anomaly(one[i]);
    const Anomaly b = read_anomaly(four[i]);
    for (std::size_t p = 0; p < a.norms.size(); ++p) EXPECT_EQ(a.norms[p].norm, b.norms[p].norm) << a.norms[p].name;
    EXPECT_EQ(read_file(one[i] / "batch.safetensors"), read_file(four[i] / "batch.safetensors"));
    EXPECT_EQ(read_file(run() / "anomalies/weights" / a.weights / "params.safetensors"),
              read_file(dir / "anomalies/weights" / b.weights / "params.safetensors"));
  }
  // and any number of them replays it
  EXPECT_THAT(run_ranks(2, [&](Communicator& r) { EXPECT_THAT(replay_anomaly(one[0], 1, r).differences, IsEmpty()); }),
              Each(""));
}

// Weights that overflowed: the operation that was first to write what is not finite is named.
TEST(Replay, NamesTheFirstOperationThatIsNotFinite) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.optimizer.lr = 1e30;
  cfg.guard.max_skips = 1;
  ASSERT_EQ(run_in(dir.path(), cfg), RunOutcome::diverged);
  const Replay r = replay_alone(evidence_in(dir.path()).front());
  EXPECT_THAT(r.differences, IsEmpty());
  EXPECT_FALSE(std::isfinite(r.now.loss));
  EXPECT_THAT(r.first_not_finite, testing::AllOf(HasSubstr("rmsnorm_gates_forward, layer 0"), HasSubstr(", step "),
                                                 HasSubstr("sequences ")));
}

TEST(Replay, OneWeightThatIsNanIsFoundInItsLayer) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.guard.max_skips = 1;
  cfg.resolve();
  {
    Trainer trainer(dir.path(), cfg, {"test"});
    for (const ParamInfo& p : trainer.state().params.all())
      if (p.name == "blocks.1.ffn.proj_down.weight") *p.param.value.row<float>() = NAN;
    ASSERT_EQ(trainer.run({}), RunOutcome::diverged);
  }
  const Replay r = replay_alone(evidence_in(dir.path()).front());
  EXPECT_THAT(r.differences, IsEmpty());
  EXPECT_THAT(r.first_not_finite, HasSubstr("layer 1"));
}

TEST_F(ReplayTest, OtherBitsAreTold) {
  TempDir dir;
  fs::copy(run() / "anomalies", dir / "anomalies", fs::copy_options::recursive);
  const fs::path folder = evidence_in(dir.path()).front();
  Json facts = unsealed(read_file(folder / "anomaly.json"));
  facts["loss"] = std::nextafter(facts["loss"].get<double>(), 0.0);
  const std::string name = facts["parameter_grad_norms"].begin().key();
  facts["parameter_grad_norms"][name] = facts["parameter_grad_norms"][name].get<double>() * 1.5;
  write_text(folder / "anomaly.json", sealed(facts));
  EXPECT_THAT(replay_alone(folder).differences, testing::ElementsAre("loss", "gradient of " + name));
}

TEST_F(ReplayTest, WhatIsDamagedOrMissingIsNamed) {
  const auto with = [&](const std::function<void(const fs::path& folder)>& damage) {
    TempDir dir;
    fs::copy(run() / "anomalies", dir / "anomalies", fs::copy_options::recursive);
    const fs::path folder = evidence_in(dir.path()).front();
    damage(folder);
    return user_error_of([&] { replay_alone(folder); });
  };
  EXPECT_THAT(with([](const fs::path& f) { fs::remove_all(f); }), HasSubstr("no evidence there"));
  EXPECT_THAT(with([](const fs::path& f) { fs::remove(f / "batch.safetensors"); }), HasSubstr("batch.safetensors"));
  EXPECT_THAT(with([](const fs::path& f) { fs::remove_all(f.parent_path() / "weights"); }),
              HasSubstr("weights are not there"));
  const auto flip = [](const fs::path& file, std::size_t from_end) {
    std::string bytes = read_file(file);
    bytes[bytes.size() - from_end] ^= 1;
    write_text(file, bytes);
  };
  EXPECT_THAT(with([&](const fs::path& f) { flip(f / "anomaly.json", 100); }), HasSubstr("checksum"));
  EXPECT_THAT(with([&](const fs::path& f) { flip(f / "batch.safetensors", 5); }), HasSubstr("tensor 'starts'"));
  EXPECT_THAT(with([&](const fs::path& f) {
                const auto a = read_anomaly(f);
                flip(f.parent_path() / "weights" / a.weights / "params.safetensors", 5);
              }),
              HasSubstr("damaged"));
}

// A full disk while evidence is written: other evidence may be missing, nothing else.
TEST_F(ReplayTest, AFullDiskLosesTheEvidenceAlone) {
  TempDir dir;
  TrainConfig cfg = skipping_run();
  cfg.resolve();
  int refused = 0;
  {
    Trainer trainer(dir.path(), cfg, {"test"});
    // Checkpoints are written by a thread of their own, at the same time: what it writes finds room.
    const HookScope full([&, trains = std::this_thread::get_id()](const char* call) {
      std::error_code none;
      if (std::this_thread::get_id() != trains || !fs::exists(dir / "anomalies", none)) return 0;
      for (const auto& entry : fs::recursive_directory_iterator(dir / "anomalies", none))
        if (entry.path().string().ends_with(".tmp-write") && std::string(call) == "write") return ++refused, ENOSPC;
      return 0;
    });
    ASSERT_EQ(trainer.run({}), RunOutcome::finished);
  }
  EXPECT_GE(refused, 3);
  EXPECT_EQ(final_weights(dir.path()), final_weights(run()));
  EXPECT_THAT(evidence_in(dir.path()), IsEmpty());
  for (const auto& entry : fs::recursive_directory_iterator(dir / "anomalies"))
    EXPECT_FALSE(entry.path().string().ends_with(".tmp-write")) << entry.path();
}

}  // namespace
}  // namespace xlstm
