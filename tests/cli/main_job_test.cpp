// The whole main job, as a user runs it: text, tokens, training, evaluation, samples.
#include <cmath>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

void expect_fields(const Json& json, const std::vector<std::string>& fields) {
  for (const std::string& field : fields) EXPECT_TRUE(json.contains(field)) << "no '" << field << "' in " << json;
}

class MainJob : public CliTest {
 protected:
  MainJob() { make_data(); }
};

TEST_F(MainJob, TokenizerAndData) {
  const Json built = must_run({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "data",
                               "--validation-fraction", "0.1", "--json"})
                         .json();
  EXPECT_EQ(built["already_built"], true);
  const Json info = must_run({"data", "info", "data", "--json"}).json();
  EXPECT_EQ(info["train"], built["train"]);
  EXPECT_EQ(info["validation"], built["validation"]);
  EXPECT_EQ(info["train"]["documents"].get<int>() + info["validation"]["documents"].get<int>(), 300);
  EXPECT_EQ(must_run({"data", "verify", "data", "--json"}).json()["ok"], true);

  const std::string text = "the Größe of 日本 😀\n";
  const Json encoded = must_run({"tokenizer", "encode", "--model", "tok.model", text, "--json"}).json();
  Arguments decode{"tokenizer", "decode", "--model", "tok.model"};
  for (const Json& id : encoded["ids"]) decode.push_back(id.dump());
  EXPECT_EQ(must_run(decode).out, text);
}

TEST_F(MainJob, TrainEvaluateGenerate) {
  const Ended trained = must_run(train("run"));
  EXPECT_THAT(trained.out, IsEmpty());
  EXPECT_THAT(trained.err, HasSubstr("done: 12 steps"));
  EXPECT_THAT(trained.err, HasSubstr("validation loss"));
  EXPECT_THAT(files_below(path("run")),
              testing::IsSupersetOf({"config.yaml", "environment.json", "metrics.jsonl", "checkpoints/LATEST",
                                     "checkpoints/step_00000012/manifest.json", "tokenizer.model"}));
  const std::string metrics = read_file(path("run") / "metrics.jsonl");
  const std::string line = metrics.substr(0, metrics.find('\n'));
  expect_fields(Json::parse(line),
                {"step", "tokens", "loss", "grad_norm", "lr", "tokens_per_second", "mfu", "seconds"});
  EXPECT_EQ(metric(path("run"), "grad_norm").size(), 12u);

  const std::string sha = weights("run");
  EXPECT_THAT(must_run(train("run")).err, HasSubstr("already done: 12 steps"));
  EXPECT_EQ(weights("run"), sha);
  EXPECT_EQ(read_file(path("run") / "metrics.jsonl"), metrics);

  const Json eval = must_run({"eval", "--checkpoint", "run", "--data", "data", "--json"}).json();
  expect_fields(eval, {"loss", "perplexity", "bits_per_byte", "tokens", "step", "context_length", "loss_by_position",
                       "unigram_entropy"});
  EXPECT_NEAR(eval["perplexity"].get<double>(), std::exp(eval["loss"].get<double>()), 1e-9);
  EXPECT_GT(eval["tokens"].get<i64>(), 1000);
  EXPECT_LT(eval["loss"].get<double>(), std::log(340.0));
  EXPECT_THAT(must_run({"eval", "--checkpoint", "run"}).out, HasSubstr("perplexity"));
}

TEST_F(MainJob, Samples) {
  must_run(train("run"));
  const Arguments one{"generate", "--checkpoint", "run", "--prompt", "the state", "--tokens", "12", "--seed", "5"};
  const Ended streamed = must_run(one);
  EXPECT_TRUE(streamed.out.starts_with("the state")) << streamed.out;
  EXPECT_EQ(must_run(one).out, streamed.out);

  Arguments two = one;
  two.insert(two.end(), {"--prompt", "a second, longer prompt", "--json"});
  const Json samples = must_run(two).json();
  ASSERT_EQ(samples["samples"].size(), 2u);
  EXPECT_EQ(samples["samples"][0]["prompt"], "the state");
  EXPECT_EQ(samples["samples"][1]["prompt"], "a second, longer prompt");
  expect_fields(samples, {"new_tokens", "tokens_per_second"});
  EXPECT_EQ(must_run(two).json()["samples"], samples["samples"]);
  Arguments other_seed = two;
  other_seed.insert(other_seed.end(), {"--seed", "6"});
  other_seed.erase(other_seed.begin() + 7, other_seed.begin() + 9);
  EXPECT_NE(must_run(other_seed).json()["samples"], samples["samples"]);
  // What is sampled after a prompt does not depend on its neighbours in the batch.
  Arguments alone = one;
  alone.push_back("--json");
  EXPECT_EQ(must_run(alone).json()["samples"][0], samples["samples"][0]);
}

TEST_F(MainJob, Checkpoints) {
  must_run(train("run"));
  const Json info = must_run({"checkpoint", "info", "run", "--json"}).json();
  expect_fields(info, {"step", "parameters", "weights_sha256"});
  EXPECT_EQ(info["step"], 12);
  EXPECT_EQ(info["weights_sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(must_run({"checkpoint", "verify", "run", "--json"}).json()["good"], true);

  must_run(train("again", {"--set", "run.threads=2", "--set", "train.recompute=block", "--set", "checkpoint.every=0"}));
  const Json same = must_run({"checkpoint", "diff", "run", "again", "--json"}).json();
  EXPECT_EQ(same["same_weights"], true);
  EXPECT_THAT(same["params"], IsEmpty());
  must_run(train("seeded", {"--set", "run.seed=2"}));
  const Json differs = must_run({"checkpoint", "diff", "run", "seeded", "--json"}).json();
  EXPECT_EQ(differs["same_weights"], false);
  EXPECT_THAT(differs["params"], Not(IsEmpty()));
  EXPECT_EQ(run({"checkpoint", "diff", "run", "seeded", "--exit-code"}).code, 1);
}

TEST_F(MainJob, PlanAndBench) {
  const Json plan = must_run({"plan", "--config", "tiny.yaml", "--gemm-gflops", "100", "--json"}).json();
  expect_fields(plan, {"parameters", "total_bytes", "flops_per_token", "tokens_per_second"});
  must_run(train("run"));
  EXPECT_EQ(must_run({"checkpoint", "info", "run", "--json"}).json()["parameters"], plan["parameters"]);

  const Json step = must_run({"bench", "step", "--config", "tiny.yaml", "--steps", "2", "--json"}).json();
  expect_fields(step, {"tokens_per_second", "seconds_per_step", "peak_bytes"});
  EXPECT_EQ(step["planned_bytes"], plan["total_bytes"]);
  std::vector<std::string> classes;
  for (const Json& row : step["classes"]) classes.push_back(row["class"]);
  EXPECT_THAT(classes, ElementsAre("other", "embedding", "norms", "projections", "gates", "cell", "ffn", "head",
                                   "optimizer", "exchange"));
  EXPECT_GT(must_run({"bench", "loader", "--data", "data", "--context", "24", "--batch", "4", "--json"})
                .json()["tokens_per_second"]
                .get<double>(),
            0);
  must_run({"bench", "checkpoint", "--config", "tiny.yaml", "--dir", ".", "--save", "result.json"});
  expect_fields(read_json(path("result.json")), {"save_seconds", "load_seconds", "environment"});
}

TEST_F(MainJob, PathsThatAreNotUtf8) {
  must_run(train("r\xff"));
  EXPECT_EQ(must_run({"checkpoint", "info", "r\xff", "--json"}).json()["step"], 12);
  const Json samples =
      must_run({"generate", "--checkpoint", "r\xff", "--prompt", "a\xff", "--tokens", "3", "--json"}).json();
  EXPECT_EQ(samples["samples"][0]["prompt"], "a\uFFFD");
}

}  // namespace
}  // namespace xlstm
