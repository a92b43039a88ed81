// Configs that do not fit: one line that names file, line and key, exit 2, and no run directory.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

class BadConfig : public CliTest {
 protected:
  BadConfig() { make_data(); }

  void expect_set_refused(const std::string& assignment, const std::vector<std::string>& parts) const {
    SCOPED_TRACE(assignment);
    expect_refused(train("run", {"--set", assignment}), parts);
    EXPECT_FALSE(fs::exists(path("run"))) << testing::PrintToString(files_below(path("")));
  }
  void expect_file_refused(const std::string& yaml, const std::vector<std::string>& parts) const {
    SCOPED_TRACE(yaml);
    write("bad.yaml", yaml);
    expect_refused({"train", "--config", "bad.yaml", "--run", "run"}, parts);
    EXPECT_FALSE(fs::exists(path("run")));
  }
};

TEST_F(BadConfig, Keys) {
  expect_file_refused("model:\n  embedding_dim: 32\n  num_head: 2\n",
                      {"bad.yaml:3", "'model.num_head'", "did you mean 'model.mixer.num_heads'?"});
  expect_file_refused("modle:\n  embedding_dim: 32\n", {"bad.yaml:", "did you mean 'model"});
  expect_file_refused("train:\n  steps: 1\n  steps: 2\n", {"bad.yaml:3", "'train.steps' appears twice"});
  expect_set_refused("optimiser.lr=1", {"'optimiser.lr'", "did you mean 'optimizer.lr'?"});
  expect_set_refused("train.steps", {"expected key=value"});
}

TEST_F(BadConfig, Types) {
  expect_file_refused("train:\n  steps: many\n", {"bad.yaml:2", "'train.steps' is 'many'", "a whole number"});
  expect_file_refused("train: [1, 2]\n", {"bad.yaml:1", "'train' is a list"});
  expect_file_refused("train: 5\n", {"bad.yaml:1", "'train' is a section"});
  expect_file_refused("train:\n  steps: {\n", {"bad.yaml:", "not valid YAML"});
  expect_file_refused("just words", {"bad.yaml", "section"});
  expect_set_refused("model.mixer.input_gate=expp", {"expected exp | sigmoid", "did you mean 'exp'?"});
  expect_set_refused("model.mixer.fgate_bias_init=3..x", {"from..to"});
  expect_set_refused("model.mixer.fgate_bias_init=nan", {"from..to"});
  expect_set_refused("model.mixer.fgate_bias_init=1..inf", {"from..to"});
  expect_set_refused("optimizer.lr=nan", {"a number"});
  expect_file_refused("train: {steps: 1}\n---\ntrain: {steps: 2}\n", {"bad.yaml:", "second YAML document"});
  expect_file_refused("\xff\xfe", {"bad.yaml", "UTF-8"});
  expect_file_refused(std::string("train:\0\n", 8), {"bad.yaml", "byte 6", "UTF-8"});
  expect_file_refused("model:\n  vocab_size:\n", {"bad.yaml:2", "'model.vocab_size' has no value"});
  expect_file_refused("train: &t {steps: 1, self: *t}\n", {"bad.yaml:1", "alias"});
}

TEST_F(BadConfig, SizesThatDoNotFitTogether) {
  expect_set_refused("model.mixer.num_heads=3", {"model.mixer.qk_dim_factor", "16 does not divide into 3 heads"});
  expect_set_refused("train.micro_batch_size=3", {"train.batch_size", "4 is not a multiple", "3"});
  expect_set_refused("parallel.reduction_slots=3", {"parallel.reduction_slots", "not a power of two"});
  expect_set_refused("parallel.reduction_slots=8", {"parallel.reduction_slots", "8 slots"});
  expect_set_refused("schedule.warmup_steps=20", {"warmup_steps 20", "train.steps 12"});
}

TEST_F(BadConfig, Mixtures) {
  const auto mixture = [&](const std::string& list, const std::vector<std::string>& parts) {
    expect_file_refused("data:\n  mixture: " + list + "\n", parts);
  };
  mixture("[]", {"bad.yaml:2", "'data.mixture' is an empty list"});
  mixture("data", {"bad.yaml:2", "'data.mixture' is 'data'", "a list"});
  mixture("[data]", {"bad.yaml:2", "'data.mixture.0'", "a section"});
  mixture("[{path: data, wieght: 2}]", {"bad.yaml:2", "did you mean 'data.mixture.0.weight'?"});
  mixture("[{weight: 2}]", {"bad.yaml", "data.mixture.0.path", "is empty"});
  for (const char* weight : {"0", "-1", "-0.5"})
    mixture(fmt::format("[{{path: a}}, {{path: b, weight: {}}}]", weight),
            {"bad.yaml:2", "data.mixture.1.weight: is ", "a positive number"});
  for (const char* weight : {"nan", "inf", "much"})
    mixture(fmt::format("[{{path: a}}, {{path: b, weight: {}}}]", weight),
            {"bad.yaml:2", "'data.mixture.1.weight'", "a number"});
  mixture("[{path: a, weight: 1e-12}, {path: b}]", {"bad.yaml:2", "data.mixture.0.weight", "too small"});
  mixture("[{path: a/web}, {path: b/web}]", {"bad.yaml", "data.mixture.1.name: 'web' names set 0, too"});
  mixture("[{path: a, name: The Web}]", {"bad.yaml:2", "data.mixture.0.name: 'The Web' is no name"});
  mixture("[{path: nothere}]", {"data.mixture.0.path: ", "nothere"});
  expect_file_refused("data:\n  train: data\n  mixture: [{path: data}]\n", {"bad.yaml:3", "data.mixture: data.train"});
}

TEST_F(BadConfig, Ranges) {
  expect_set_refused("train.steps=0", {"train.steps"});
  expect_set_refused("train.steps=9223372036854775807", {"train.steps", "2147483648"});
  expect_set_refused("schedule.warmup_steps=9223372036854775807", {"schedule", "warmup_steps"});
  expect_set_refused("model.mixer.chunk_size=2147483648", {"model.mixer.chunk_size", "1048576"});
  expect_set_refused("run.threads=99999999", {"run.threads", "1024"});
  expect_set_refused("train.context_length=99999999999999", {"train.context_length"});
  expect_set_refused("train.context_length=2000000000", {"train.micro_batch_size", "context_length"});
  expect_set_refused("model.num_blocks=99999999", {"model.num_blocks", "1 to 10000"});
  expect_set_refused("model.embedding_dim=-32", {"model.embedding_dim"});
  expect_set_refused("model.ffn.proj_factor=1e300", {"model.ffn.proj_factor"});
  expect_set_refused("optimizer.lr=-1", {"optimizer.lr", "0 or more"});
  expect_set_refused("optimizer.beta2=1", {"optimizer.beta2", "less than 1"});
  expect_set_refused("run.device=cuda", {"run.device"});
  for (const char* name : {"", ".", "..", "a/b"}) expect_set_refused(fmt::format("run.name={}", name), {"run.name"});
  expect_set_refused("schedule.final_factor=1.5", {"schedule.final_factor", "0 to 1"});
  expect_set_refused("parallel.timeout=0", {"parallel.timeout", "at least 1"});
  expect_set_refused("parallel.check_interval=-1", {"parallel.check_interval"});
  expect_set_refused("optimizer.eps=1e-60", {"optimizer.eps", "1e-60"});
  expect_set_refused("model.mixer.igate_bias_init=-1e5", {"model.mixer.igate_bias_init", "-10000 to 10000"});
  expect_set_refused("model.mixer.fgate_bias_init=3..1e30", {"model.mixer.fgate_bias_init"});
  expect_file_refused("train:\n  steps: 0\n", {"bad.yaml:2: train.steps: is 0"});
  expect_file_refused("train:\n  batch_size: 33\n", {"bad.yaml:2: train.batch_size: 33"});
  expect_set_refused("model.embedding_dim=262144", {"are available", "xlstm plan"});
}

TEST_F(BadConfig, Files) {
  expect_refused({"train", "--config", "nothere.yaml"}, {"nothere.yaml", "No such file"});
  expect_refused({"train", "--config", "data"}, {"data", "Is a directory"});
  expect_refused(train("tiny.yaml"), {"tiny.yaml"});
  expect_refused({"train", "--config", ""}, {"--config: is empty"});
  expect_refused({"train", "--config", "tiny.yaml", "--run", ""}, {"--run: is empty"});
}

TEST_F(BadConfig, AFolderOfSomethingElse) {
  fs::create_directory(path("run"));
  write("run/metrics.jsonl", "mine");
  write("run/environment.json", "mine");
  expect_refused(train("run"), {"run: holds something that is no run", "--run"});
  write("run/config.yaml", "a: 1\n");
  expect_refused(train("run"), {"run/config.yaml", "the whole config of a run", "--run"});
  EXPECT_THAT(files_below(path("run")), testing::ElementsAre("config.yaml", "environment.json", "metrics.jsonl"));
  EXPECT_EQ(read_file(path("run/metrics.jsonl")), "mine");
}

// Names and values of users may hold line ends; errors are one line still (expect_refused counts them).
TEST_F(BadConfig, LineEndsInNames) {
  expect_set_refused("train.steps=many\nsteps", {"'train.steps' is 'many\\nsteps'"});
  expect_refused({"eval", "--checkpoint", "two\nlines"}, {"no checkpoint in two\\nlines"});
  expect_refused({"eval", "--checkpoint", "run", "two\nlines"}, {"two\\nlines"});
  expect_refused({"eval", "--checkpoint", "run", "--windows", "two\nlines"}, {"two\\nlines"});
  write("run", "in the way");
  expect_refused({"train", "--config", "tiny.yaml", "--run", "run/two\nlines"}, {"run/two\\nlines"});
}

// A wrong start must not bind the folder to a wrong config: the mended command works.
TEST_F(BadConfig, AMendedCommandWorksInTheSameFolder) {
  expect_refused(train("run", {"--set", "train.context_length=30000"}), {"too few for a context length of 30000"});
  EXPECT_FALSE(fs::exists(path("run")));
  must_run(train("run"));
}

}  // namespace
}  // namespace xlstm
