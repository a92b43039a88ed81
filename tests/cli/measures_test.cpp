// What is measured and planned: profile, sweep, transfer, plan, events; and the ablations' configs.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "core/process.h"
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class Measures : public CliTest {
 protected:
  Measures() { make_data(); }
};

TEST_F(Measures, TheClassesAddUpToTheStep) {
  EXPECT_THAT(must_run(train("run", {"--profile"})).err, HasSubstr("where the time of a step goes"));
  const Json profile = read_json(path("run/profile.json"));
  double sum = 0, bytes = 0, idle = -1;
  for (const Json& row : profile["classes"]) {
    sum += row["seconds"].get<double>();
    bytes += row["bytes"].get<double>();
    if (row["class"] == "idle") idle = row["share"];
    EXPECT_TRUE(row["class"] == "idle" || row["seconds"].get<double>() >= 0) << row;
  }
  const double step = profile["seconds_per_step"];
  EXPECT_NEAR(sum, step, 0.02 * step);
  EXPECT_GT(idle, -0.02);  // no time is counted twice
  EXPECT_GT(bytes, 0);
  std::istringstream lines(read_file(path("run/metrics.jsonl")));
  for (std::string line; std::getline(lines, line);)
    if (const Json step_line = Json::parse(line); step_line.contains("loss")) {
      double of_classes = 0;
      for (const auto& [name, seconds] : step_line.at("class_seconds").items()) of_classes += seconds.get<double>();
      EXPECT_NEAR(of_classes, step_line["seconds"].get<double>(), 0.02 * of_classes);
    }
  if (program_is_there("gnuplot")) {
    EXPECT_THAT(read_file(path("run/report.html")), HasSubstr("time in cell, ms of a step"));
  }
  must_run(train("plain"));
  EXPECT_EQ(weights("plain"), weights("run"));
  EXPECT_EQ(read_file(path("plain/metrics.jsonl")).find("class_seconds"), std::string::npos);
  EXPECT_FALSE(fs::exists(path("plain/profile.json")));
}

TEST_F(Measures, SweepAndTransfer) {
  const Json sweep =
      must_run({"bench", "sweep", "--config", "tiny.yaml", "--context", "8..16", "--steps", "1", "--json"}).json();
  ASSERT_EQ(sweep["contexts"].size(), 2u);
  EXPECT_GT(sweep["contexts"][1]["classes"]["cell"].get<double>(), 0);
  expect_refused({"bench", "sweep", "--config", "tiny.yaml", "--context", "7,16"}, {"--context 7", "16 tokens"});
  for (const char* wrong : {"8..", "16..8", "8,,16", "8;16", "0"})
    expect_refused({"bench", "sweep", "--config", "tiny.yaml", "--context", wrong}, {"--context", wrong});

  // After the norm both gates do the same: nothing where the input gate is shut, all where it is open (spec.md, 8.3).
  const Json transfer = must_run({"bench", "transfer", "--json"}).json();
  for (const Json& g : transfer["gains"])
    if (g["f"] == 5 && g["eps"] == 1e-2) {
      const double i = g["i"], gain = g["gain_after_norm"];
      EXPECT_TRUE(i > -10 || gain < 0.1) << g;
      EXPECT_TRUE(i < 0 || gain > 0.9) << g;
    }
}

TEST_F(Measures, Plan) {
  const Arguments plan{"plan",
                       "--config",
                       XLSTM_SOURCE_DIR "/configs/mlstm_sig_160m.yaml",
                       "--json",
                       "--gpu",
                       "h100",
                       "--set",
                       "run.precision=bf16",
                       "--price",
                       "2"};
  const Json p = must_run(plan).json();
  EXPECT_GT(p["tokens_per_second"].get<double>(), 1e4);
  EXPECT_NEAR(p["price"].get<double>(), p["seconds"].get<double>() / 1800, 1e-6);
  i64 total = 0;
  for (const auto& [name, bytes] : p["bytes"].items()) total += bytes.get<i64>();
  EXPECT_EQ(total, p["total_bytes"]);
  EXPECT_GT(p["bytes_per_block"]["activations"].get<i64>(), 0);

  // What it suggests can be pasted, and fits; with too little memory it says so.
  Arguments small = plan;
  small.insert(small.end(), {"--memory-gib", "24"});
  const Json s = must_run(small).json();
  EXPECT_EQ(s["fits"], false);
  ASSERT_FALSE(s["suggestions"].empty());
  for (const Json& line : s["suggestions"]) {
    Arguments again = small;
    again.insert(again.end(), {"--set", line.get<std::string>().substr(6)});
    EXPECT_EQ(must_run(again).json()["fits"], true) << line;
  }
  expect_refused({"plan", "--config", "tiny.yaml", "--gpu", "b9000"}, {"--gpu b9000", "h100"});
  expect_refused({"plan", "--config", "tiny.yaml", "--price", "0"}, {"--price 0"});
}

// With the optimizer shared out, a rank has less of it; and what it sends is what docs/scaling.md says.
// The most memory that the program ever had, in that folder.
i64 peak_bytes_of(const Arguments& arguments, const fs::path& folder) {
  std::vector<std::string> words{XLSTM_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    if (chdir(folder.c_str()) != 0) _exit(126);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = -1;
  rusage used{};
  EXPECT_EQ(wait4(child, &status, 0, &used), child);
  EXPECT_EQ(status, 0);
  return i64{used.ru_maxrss} * 1024;
}

TEST_F(Measures, ARunStaysWithinItsPlan) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer takes memory of its own";
#endif
  for (const std::string precision : {"f32", "bf16"}) {
    const Arguments wide{"--set", "run.precision=" + precision, "--set", "model.embedding_dim=128",
                         "--set", "train.context_length=128"};
    Arguments plan{"plan", "--config", "tiny.yaml", "--json"};
    plan.insert(plan.end(), wide.begin(), wide.end());
    const i64 planned = must_run(plan).json()["total_bytes"], used = peak_bytes_of(train(precision, wide), path("."));
    EXPECT_LE(used, planned) << precision;
    EXPECT_GE(used, planned / 2) << precision;  // or the plan says nothing
  }
}

TEST_F(Measures, PlanOfSeveralRanks) {
  const auto plan = [&](const Arguments& more) {
    Arguments all{
        "plan",  "--config",          XLSTM_SOURCE_DIR "/configs/mlstm_sig_160m.yaml", "--json", "--gpu", "h100",
        "--set", "run.precision=bf16"};
    all.insert(all.end(), more.begin(), more.end());
    return must_run(all).json();
  };
  const Json one = plan({}), four = plan({"--ranks", "4", "--hosts", "2"}),
             unshared = plan({"--ranks", "4", "--set", "parallel.shard_optimizer=false"});
  EXPECT_EQ(one["sent_bytes"], 0);
  const double p = one["parameters"].get<double>();
  EXPECT_NEAR(four["sent_bytes_of_gradients"].get<double>(), 4 * p * 3 / 4, 1e-3 * p);
  EXPECT_NEAR(four["sent_bytes_of_weights"].get<double>(), 2 * p * 3 / 4, 1e-3 * p);
  EXPECT_NEAR(unshared["sent_bytes_of_gradients"].get<double>(), 8 * p * 3 / 4, 1e-3 * p);
  EXPECT_EQ(unshared["sent_bytes_of_weights"], 0);
  const auto moments = [](const Json& j) { return j["bytes"]["optimizer moments"].get<double>(); };
  EXPECT_NEAR(moments(four), moments(one) / 4, 1e-2 * moments(one));
  EXPECT_EQ(moments(unshared), moments(one));
  EXPECT_NEAR(four["tokens_per_second"].get<double>(), 4 * one["tokens_per_second"].get<double>(), 1);
  EXPECT_EQ(four["bytes"]["NCCL, reserved"], i64{5} << 29);
  EXPECT_FALSE(one["bytes"].contains("NCCL, reserved"));
  EXPECT_EQ(four["host_bytes"], 2 * four["bytes"]["checkpoint snapshot"].get<i64>());
  expect_refused({"plan", "--config", "tiny.yaml", "--ranks", "3"}, {"cannot be shared by 3 ranks"});
}

TEST_F(Measures, AblationsAreOverlays) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(XLSTM_SOURCE_DIR "/configs/ablations")) {
    must_run({"plan", "--config", "tiny.yaml", "--gemm-gflops", "1", "--bandwidth-gbs", "1", "--set",
              "model.embedding_dim=192", "--set", "@" + entry.path().string()});
    ++count;
  }
  EXPECT_GE(count, 9);
  must_run(train("fixed", {"--set", std::string("@") + XLSTM_SOURCE_DIR "/configs/ablations/igate_fixed.yaml"}));
  for (const char* key : {"input_gate_max", "input_gate_min"})
    for (const double gate : metric(path("fixed"), key)) EXPECT_EQ(gate, -10);
  write("wrong.yaml", "model:\n  mixer: {gate: exp}\n");
  expect_refused({"train", "--config", "tiny.yaml", "--set", "@wrong.yaml"}, {"wrong.yaml:2", "model.mixer.gate"});
  expect_refused({"train", "--config", "tiny.yaml", "--set", "@nothere.yaml"}, {"nothere.yaml"});
}

TEST_F(Measures, TensorBoardReadsTheEvents) {
  must_run(train("run"));
  EXPECT_TRUE(fs::exists(path("run/events")));
  if (!run_program({"python3", "-c", "import tensorboard"})) GTEST_SKIP() << "no TensorBoard";
  const std::string command = fmt::format("python3 {}/scripts/read_events.py {} > {}", XLSTM_SOURCE_DIR,
                                          path("run").string(), path("e.json").string());
  ASSERT_TRUE(run_program({"sh", "-c", command}));
  const Json events = read_json(path("e.json"));
  const std::vector<double> losses = metric(path("run"), "loss");
  ASSERT_EQ(events["loss/train"].size(), losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i)
    EXPECT_EQ(events["loss/train"][i][1].get<float>(), static_cast<float>(losses[i]));
  EXPECT_EQ(events["loss/validation"].size(), 3u);
}

}  // namespace
}  // namespace xlstm
