// The gates' extremes in metrics.jsonl: those of the whole update, whatever is recomputed or evaluated in between.
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

constexpr const char* kKeys[] = {"input_gate_max", "input_gate_min", "forget_gate_max", "forget_gate_min"};

std::vector<std::vector<double>> gates_of(TrainConfig cfg) {
  const TempDir dir;
  run_in(dir / "run", std::move(cfg));
  std::vector<std::vector<double>> all;
  for (const char* key : kKeys) all.push_back(metric(dir / "run", key));
  return all;
}

TEST(GateMetrics, BeginAtTheBiasesAndMoveWithTheWeights) {
  TrainConfig cfg = tiny_run();
  cfg.train.steps = 4;
  const auto gates = gates_of(cfg);  // weights of the gates are 0 at first
  EXPECT_EQ(gates[0].at(0), -10);
  EXPECT_EQ(gates[1].at(0), -10);
  EXPECT_EQ(gates[2].at(0), 6);
  EXPECT_EQ(gates[3].at(0), 3);
  for (const auto& values : gates) EXPECT_NE(values.at(3), values.at(0));
  EXPECT_GT(gates[0].at(3), gates[1].at(3));
}

TEST(GateMetrics, AreTheSameForEveryPolicy) {
  TrainConfig cfg = tiny_run();
  const auto expected = gates_of(cfg);
  cfg.eval.every = 1;
  cfg.run.threads = 2;
  for (const Recompute policy : {Recompute::cheap, Recompute::block}) {
    cfg.train.recompute = policy;
    EXPECT_EQ(gates_of(cfg), expected);
  }
  cfg.run.check = Check::full;  // which wants every output of an operation to be finite
  EXPECT_EQ(gates_of(cfg), expected);
}

}  // namespace
}  // namespace xlstm
