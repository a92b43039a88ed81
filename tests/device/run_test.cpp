// Whole runs on Device::cuda: the trainer, evaluation, generation, checkpoints and memory of a run, against the CPU's.
#include <gtest/gtest.h>

#include "tests/train/run_rig.h"
#include "train/evaluate.h"
#include "train/generate.h"
#include "train/loaded_model.h"

namespace xlstm {
namespace {

TrainConfig device_run(InputGate gate, Precision precision) {
  TrainConfig cfg = tiny_run();
  cfg.model.mixer.input_gate = gate;
  cfg.run.device = DeviceChoice::cuda;
  cfg.run.precision = precision;
  cfg.run.gemm_algorithms = GemmAlgorithms::heuristic;  // two runs are compared to the bit
  cfg.train.steps = 6;
  cfg.train.batch_size = 4;
  cfg.checkpoint.every = 3;
  cfg.eval = {.every = 4, .batches = 1};
  return cfg;
}

TrainConfig on_cpu(TrainConfig cfg) {
  cfg.run.device = DeviceChoice::cpu;
  cfg.run.precision = Precision::f32;
  return cfg;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance * std::abs(want[i])) << what << i;
}

struct Params {
  InputGate gate;
  Precision precision;
};
class DeviceRun : public testing::TestWithParam<Params> {
 protected:
  TrainConfig config() const { return device_run(GetParam().gate, GetParam().precision); }
  bool f32() const { return GetParam().precision == Precision::f32; }
};
INSTANTIATE_TEST_SUITE_P(All, DeviceRun,
                         testing::Values(Params{InputGate::exp, Precision::f32},
                                         Params{InputGate::sigmoid, Precision::f32},
                                         Params{InputGate::exp, Precision::bf16},
                                         Params{InputGate::sigmoid, Precision::bf16}),
                         [](const auto& p) {
                           return std::string(p.param.gate == InputGate::exp ? "exp" : "sigmoid") +
                                  (p.param.precision == Precision::f32 ? "_f32" : "_bf16");
                         });

// Losses and norms of six updates. bf16 rounds operands to 2^-8; the mean of hundreds of losses to a fraction of that.
TEST_P(DeviceRun, LearnsWhatTheCpuLearns) {
  TempDir device, cpu;
  ASSERT_EQ(run_in(device.path(), config()), RunOutcome::finished);
  ASSERT_EQ(run_in(cpu.path(), on_cpu(config())), RunOutcome::finished);
  const double loss = f32() ? 1e-5 : 2e-3, norm = f32() ? 1e-4 : 2e-2;
  expect_close(metric(device.path(), "loss"), metric(cpu.path(), "loss"), loss, "loss");
  expect_close(metric(device.path(), "validation_loss"), metric(cpu.path(), "validation_loss"), loss, "validation");
  expect_close(metric(device.path(), "grad_norm"), metric(cpu.path(), "grad_norm"), norm, "norm");
}

TEST_P(DeviceRun, ResumesAndRecomputesToTheBit) {
  TempDir whole, resumed;
  ASSERT_EQ(run_in(whole.path(), config()), RunOutcome::finished);
  TrainConfig cfg = config();
  ASSERT_EQ(run_in(resumed.path(), cfg, 2), RunOutcome::stopped);
  cfg.train.recompute = Recompute::cheap;
  ASSERT_EQ(run_in(resumed.path(), cfg, 4), RunOutcome::stopped);
  cfg.train.recompute = Recompute::block;
  ASSERT_EQ(run_in(resumed.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(resumed.path()), final_weights(whole.path()));
  EXPECT_EQ(metric(resumed.path(), "loss"), metric(whole.path(), "loss"));
}

TEST_P(DeviceRun, ItsCheckpointIsReadAnywhere) {
  TempDir run;
  ASSERT_EQ(run_in(run.path(), config()), RunOutcome::finished);
  const Dataset data = Dataset::open(tiny_dataset(), "validation");
  const LoadedModel there(run.path()), here(run.path(), DeviceChoice::cpu);
  const auto a = evaluate(there, data, 24, 2, {.windows = 2}), b = evaluate(here, data, 24, 2, {.windows = 2});
  ASSERT_TRUE(a && b);
  EXPECT_NEAR(a->loss, b->loss, f32() ? 1e-5 : 1e-2);

  const auto sample = [](const LoadedModel& model) {
    GenerateConfig cfg;
    cfg.max_tokens = 8;
    cfg.sampling.temperature = 0;
    std::vector<int> ids;
    generate(model, sample_tokenizer(), {{5, 6, 7, 8, 9}, {10}}, cfg, [&](std::size_t, int id) { ids.push_back(id); });
    return ids;
  };
  const std::vector<int> device = sample(there);
  EXPECT_FALSE(device.empty());
  if (f32()) {
    EXPECT_EQ(device, sample(here));
  }
}

TEST_P(DeviceRun, PlannedIsAllocatedIsUsed) {
  TrainConfig cfg = config();
  cfg.resolve();
  const std::vector<ArenaSize> planned = measure_training(cfg, Device::cuda);
  const Machine machine(cfg.run);
  TrainArenas arenas(planned, machine.gpu());
  Context ctx = machine.context(arenas.scratch);
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, 1);
  state.round_parameters(ctx);
  const Dataset data = Dataset::open(cfg.data.train);
  Loader loader(data, {.context_length = 24, .batch_size = cfg.train.batch_size});
  TokenBatch batch;
  loader.next(batch);
  TrainStep(ctx, state, cfg).run(batch, 1e-3, 1);
  const std::vector<ArenaSize> used = arenas.sizes();
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (used[i].name == "checkpoint snapshot") continue;
    EXPECT_EQ(used[i].bytes, planned[i].bytes) << used[i].name;
    EXPECT_EQ(planned[i].device, Device::cuda) << used[i].name;
  }
}

// The check waits and looks, but changes nothing; recording changes nothing either.
TEST_P(DeviceRun, ChecksAndRecordingChangeNoBit) {
  TempDir plain, checked;
  TrainConfig cfg = config();
  cfg.train.steps = 5;  // the first of a process is not recorded; between others there is an evaluation
  ASSERT_EQ(run_in(plain.path(), cfg), RunOutcome::finished);
  cfg.run.check = Check::full;
  ASSERT_EQ(run_in(checked.path(), cfg, 1), RunOutcome::stopped);
  cfg.run.check = Check::none;
  cfg.run.cuda_graph = true;
  ASSERT_EQ(run_in(checked.path(), cfg), RunOutcome::finished);
  EXPECT_EQ(final_weights(checked.path()), final_weights(plain.path()));
}

TEST(DeviceFaults, AValueThatIsNotFiniteIsTracedToItsOperation) {
  TrainConfig cfg = device_run(InputGate::exp, Precision::f32);
  cfg.run.check = Check::full;
  cfg.resolve();
  const Machine machine(cfg.run);
  TrainArenas arenas(measure_training(cfg, Device::cuda), machine.gpu());
  Context ctx = machine.context(arenas.scratch);
  TrainState state(arenas, cfg);
  initialise(ctx, state.params, 1);
  const ParamInfo& down = state.params.all().at(state.params.all().size() - 3);  // of the last block
  std::vector<float> values(static_cast<std::size_t>(down.master.size()), std::numeric_limits<float>::infinity());
  upload(ctx, down.master, values.data());
  const Dataset data = Dataset::open(cfg.data.train);
  Loader loader(data, {.context_length = 24, .batch_size = cfg.train.batch_size});
  TokenBatch batch;
  loader.next(batch);
  ctx.step = 7;
  try {
    TrainStep(ctx, state, cfg).run(batch, 1e-3, 1);
    FAIL() << "nothing was found with " << down.name;
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("matmul_add, layer 1, step 7: "),
                                         testing::HasSubstr("in row 0, column 0 of its argument ")));
  }
}

}  // namespace
}  // namespace xlstm
