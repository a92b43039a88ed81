// An experiment as one command: resumed, not repeated, reported; and its page in a real browser, where there is one.
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <thread>

#include "core/process.h"
#include "core/profile.h"
#include "core/random.h"
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class CompareTest : public CliTest {
 protected:
  CompareTest() { make_data(); }
  Arguments compare(const Arguments& more = {}) const {
    Arguments a{"compare", "--config", "tiny.yaml", "--vary", "model.mixer.input_gate=exp,sigmoid", "--out", "cmp"};
    a.insert(a.end(), more.begin(), more.end());
    return a;
  }
};

TEST_F(CompareTest, TrainsOnceAndGoesOn) {
  const Ended first = must_run(compare({"--seeds", "2", "--json"}));
  const Json result = first.json();
  ASSERT_EQ(result["arms"].size(), 2u);
  for (const Json& arm : result["arms"]) {
    EXPECT_EQ(arm["finished"], 2);
    EXPECT_GT(arm["loss"]["deviation"].get<double>(), 0);
    EXPECT_GT(arm["peak_bytes"].get<i64>(), 0);
    EXPECT_GT(arm["tokens_per_second"]["mean"].get<double>(), 0);
    EXPECT_LT(arm["largest_input_gate_preactivation"]["mean"].get<double>(), 0);
  }
  const std::string page = read_file(path("cmp/report.html"));  // settings by arm, whatever the seeds
  EXPECT_THAT(page, HasSubstr("<td>model.mixer.input_gate</td><td>exp</td><td>sigmoid</td></tr>"));
  EXPECT_THAT(page, testing::Not(HasSubstr("<td>run.seed</td>")));
  EXPECT_EQ(read_json(path("cmp/compare.json"))["tokens"], result["tokens"]);

  // The same run as `train` would make it; and none of them is run again.
  must_run(train("alone", {"--set", "model.mixer.input_gate=sigmoid", "--set", "run.seed=2"}));
  EXPECT_EQ(weights("cmp/input_gate=sigmoid/seed_2"), weights("alone"));
  const std::string before = read_file(path("cmp/input_gate=exp/seed_1/environment.json"));
  const Ended again = must_run(compare({"--seeds", "2", "--json"}));
  EXPECT_THAT(again.err, HasSubstr("finished already"));
  EXPECT_EQ(again.json(), result);
  EXPECT_EQ(read_file(path("cmp/input_gate=exp/seed_1/environment.json")), before);
}

TEST_F(CompareTest, RunsOfAnotherExperimentAreNamed) {
  must_run(compare());
  const std::string table = read_file(path("cmp/compare.json"));
  expect_refused(compare({"--set", "optimizer.lr=0.5"}), {"another experiment", "optimizer.lr was", "--out"});
  expect_refused(compare({"--seeds", "2", "--set", "optimizer.lr=0.5"}), {"another experiment", "seed_1"});
  must_run(
      {"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "half", "--validation-fraction", "0.5"});
  expect_refused(compare({"--set", "data.train=half"}), {"another experiment", "trained on data"});
  expect_refused(compare({"--set", "data.validation=half"}), {"another experiment", "evaluated on data"});
  expect_refused({"report", "cmp"}, {"cmp: is a comparison", "cmp/report.html"});
  expect_refused(compare({"--set", "eval.batches=3"}), {"another experiment", "eval.batches was 2, is 3"});
  fs::copy(path("data"), path("moved"), fs::copy_options::recursive);
  must_run(compare({"--set", "data.validation=moved"}));  // the same text
  EXPECT_EQ(read_file(path("cmp/compare.json")), table);
  EXPECT_FALSE(fs::exists(path("cmp/input_gate=exp/seed_2")));
  for (const char* key : {"train.micro_batch_size", "train.batch_size", "eval.batches"})
    expect_refused({"compare", "--config", "tiny.yaml", "--vary", std::string(key) + "=1,2"}, {"the same tokens"});
}

TEST_F(CompareTest, AnInterruptedRunGoesOnToTheSameWeights) {
  must_run(compare());
  const std::string expected = weights("cmp/input_gate=exp/seed_1");
  Arguments long_run = compare({"--set", "train.steps=4000", "--set", "checkpoint.every=0"});
  long_run[6] = "stopped";
  Program program(path(""), long_run);
  while (program.running() && !fs::exists(path("stopped/input_gate=exp/seed_1/metrics.jsonl"))) {
  }
  program.send(SIGTERM);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("the same command goes on"));
  EXPECT_TRUE(fs::exists(path("stopped/input_gate=exp/seed_1/checkpoints")));

  fs::remove_all(path("cmp/input_gate=exp/seed_1/checkpoints/step_00000012"));  // as if killed after step 8
  EXPECT_THAT(must_run(compare()).err, HasSubstr("at step 8"));
  EXPECT_EQ(weights("cmp/input_gate=exp/seed_1"), expected);
}

// What does not depend on the clock.
Json untimed(Json result) {
  for (const char* key : {"seconds", "report"}) result.erase(key);
  for (Json& arm : result["arms"])
    for (const char* key : {"tokens_per_second", "loss_at_equal_seconds", "perplexity_at_equal_seconds"})
      arm.erase(key);
  return result;
}

TEST_F(CompareTest, KilledAtAnyMomentItComesToTheSameTable) {
  constexpr int kKills = 10;
  const Timer timer;
  const Json expected = must_run(compare({"--seeds", "2", "--json"})).json();
  const double seconds = timer.seconds();
  Arguments arguments = compare({"--seeds", "2", "--json"});
  arguments[6] = "killed";
  const std::vector<std::string> runs{"input_gate=exp/seed_1", "input_gate=sigmoid/seed_1", "input_gate=exp/seed_2",
                                      "input_gate=sigmoid/seed_2"};
  const auto starts = [&](const std::string& run) {
    const fs::path file = path("killed") / run / "environment.json";
    return fs::exists(file) ? read_json(file).at("starts").size() : 0;
  };
  const auto is_finished = [&](const std::string& run) {  // as metrics and checkpoints say, which come last
    const fs::path folder = path("killed") / run, metrics = folder / "metrics.jsonl";
    return fs::exists(folder / "checkpoints/step_00000012/manifest.json") && fs::exists(metrics) &&
           read_file(metrics).find("{\"step\":12,\"validation_loss\"") != std::string::npos;
  };
  const RandomStream random(7, RandomUse::test);
  std::map<std::string, std::size_t> starts_of_finished;
  int killed = 0;
  for (bool ended = false; !ended && killed < kKills;) {
    Program program(path(""), arguments);
    const Timer since;
    const double until = random.uniform(static_cast<std::uint64_t>(killed)) * seconds / 3;
    const auto too_early = [&] { return killed == 0 ? !is_finished(runs[0]) : since.seconds() < until; };
    while (program.running() && too_early()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    program.send(SIGKILL);
    ended = program.wait().code != 128 + SIGKILL;
    killed += !ended;
    for (const std::string& run : runs)
      if (is_finished(run)) starts_of_finished.emplace(run, starts(run));
  }
  EXPECT_GE(killed, 1);
  const Ended last = must_run(arguments);
  EXPECT_EQ(untimed(last.json()), untimed(expected));
  for (const std::string& run : runs) EXPECT_EQ(weights("killed/" + run), weights("cmp/" + run)) << run;
  for (const auto& [run, before] : starts_of_finished) EXPECT_EQ(starts(run), before) << run << " was run again";
  EXPECT_GE(starts_of_finished.size(), 1u);
}

TEST_F(CompareTest, PartsShareTheRuns) {
  must_run(compare({"--part", "1/2"}));
  EXPECT_FALSE(fs::exists(path("cmp/input_gate=exp")));
  EXPECT_TRUE(fs::exists(path("cmp/input_gate=sigmoid")));
  EXPECT_THAT(must_run(compare({"--part", "0/2"})).out, HasSubstr("input_gate=exp"));
}

TEST_F(CompareTest, BadInput) {
  const auto vary = [](const std::string& text) {
    return Arguments{"compare", "--config", "tiny.yaml", "--vary", text, "--out", "cmp"};
  };
  expect_refused(vary("model.mixer.input_gate"), {"--vary model.mixer.input_gate", "KEY=A,B"});
  expect_refused(vary("model.mixer.gate=exp"), {"--vary model.mixer.gate=exp", "unknown key"});
  expect_refused(vary("model.mixer.input_gate=exp,tanh"), {"--vary model.mixer.input_gate=tanh"});
  expect_refused(vary("run.seed=1,2"), {"--seeds"});
  expect_refused(vary("train.context_length=24,48"), {"same tokens"});
  expect_refused(compare({"--set", "data.validation="}), {"data.validation"});
  expect_refused(compare({"--part", "2/2"}), {"--part 2/2"});
  expect_refused(compare({"--seeds", "0"}), {"--seeds"});
  EXPECT_FALSE(fs::exists(path("cmp")));
  expect_refused({"report", "nothere"}, {"nothere", "no run there"});
  expect_refused({"report", "data"}, {"data", "no run there"});
}

// What would end the last arm ends the command before the first.
TEST_F(CompareTest, AllArmsAreCheckedFirst) {
  const auto vary = [](const std::string& text) {
    return Arguments{"compare", "--config", "tiny.yaml", "--vary", text, "--out", "cmp"};
  };
  expect_refused(vary("model.mixer.num_heads=2,3"), {"arm num_heads=3: ", "does not divide into 3 heads"});
  write("wrong.yaml", "train: {batch_size: 3, micro_batch_size: 2}\n");
  expect_refused(compare({"--set", "@wrong.yaml"}), {"error: wrong.yaml:1: train.batch_size"});  // no arm's fault
  expect_refused(vary("model.embedding_dim=32,200000"), {"arm embedding_dim=200000: this run needs", "of memory"});
  expect_refused(compare({"--set", "data.validation=nothere"}), {"data.validation: nothere: no data set there"});
  if (run(train("on_gpu", {"--set", "run.device=cuda"})).code != 0) {
    expect_refused(vary("run.device=cpu,cuda"), {"arm device=cuda: "});
  }
  expect_refused(vary("optimizer.lr=1e-3,2e-3,0.001"), {"--vary optimizer.lr: 1e-3 and 0.001 make the same arm"});
  expect_refused(compare({"--vary", "parallel.reduction_slots=0,2"}), {"--vary parallel.reduction_slots: 0 and 2"});
  EXPECT_FALSE(fs::exists(path("cmp")));
}

TEST_F(CompareTest, OverAMixtureAndOverPackedRows) {
  write("other.jsonl", sample_text(2));
  must_run({"data", "build", "other.jsonl", "--tokenizer", "tok.model", "--out", "other"});
  must_run({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "rows", "--packing", "first_fit",
            "--context", "24", "--validation-fraction", "0.1"});
  write("mixed.yaml", "data: {mixture: [{path: data, weight: 3}, {path: other}]}\n");
  const std::vector<Arguments> cases{{"--set", "@mixed.yaml"},
                                     {"--set", "data.train=rows", "--set", "data.packing=first_fit"}};
  for (const Arguments& data : cases) {
    fs::remove_all(path("cmp"));
    fs::remove_all(path("alone"));
    const Ended first = must_run(compare(data));
    Arguments alone = train("alone", data);
    alone.insert(alone.end(), {"--set", "model.mixer.input_gate=sigmoid"});
    must_run(alone);
    EXPECT_EQ(weights("cmp/input_gate=sigmoid/seed_1"), weights("alone"));
    const Ended again = must_run(compare(data));
    EXPECT_THAT(again.err, HasSubstr("finished already"));
    EXPECT_EQ(again.out, first.out);
    expect_refused(compare(), {"another experiment"});
    const std::string page = read_file(path("cmp/report.html"));
    EXPECT_LT(page.find("<td>model.mixer.input_gate</td>"), page.find("all settings"));
    EXPECT_GT(page.find(data[1] == "@mixed.yaml" ? "<td>data.mixture.1.path</td>" : "<td>data.packing</td>"),
              page.find("all settings"));
    must_run({"report", "cmp/input_gate=exp/seed_1", "alone", "--out", "both.html"});
  }
  // The same validation text, packed or not: runs of both stand side by side.
  must_run(train("plain"));
  must_run(train("on_rows",
                 {"--set", "data.train=rows", "--set", "data.packing=first_fit", "--set", "data.validation=rows"}));
  must_run({"report", "plain", "on_rows", "--out", "packing.html"});
  EXPECT_THAT(read_file(path("packing.html")), HasSubstr("<td>data.packing</td><td>concat</td><td>first_fit</td>"));
}

TEST_F(CompareTest, ReportsOfRuns) {
  must_run(train("one"));
  EXPECT_TRUE(fs::exists(path("one/report.html")));
  must_run(train("two", {"--set", "optimizer.lr=1e-3"}));
  std::ofstream(path("two/metrics.jsonl"), std::ios::app) << "{\"step\": 13, \"lo";
  const Ended both = must_run({"report", "one", "two", "--out", "both.html", "--json"});
  EXPECT_EQ(both.json()["damaged_lines"], 1);
  EXPECT_THAT(both.err, HasSubstr("1 line left out"));
  EXPECT_THAT(read_file(path("both.html")), HasSubstr("optimizer.lr"));
  fs::create_directory(path("empty"));
  const Ended without = run({"report", "one", "--out", "plain.html"}, "PATH=" + path("empty").string());
  EXPECT_EQ(without.code, 0);
  EXPECT_THAT(without.err, HasSubstr("gnuplot-nox"));
  EXPECT_THAT(read_file(path("plain.html")), HasSubstr("No curves: gnuplot is not installed"));
}

std::string as_attribute(const std::string& page) {
  std::string out;
  for (const char c : page) out += c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return out;
}

// The page in a frame of that width, under a script that writes down what it sees: what was fetched, and what stands
// out over the edge. (The window of a headless browser is never narrower than 500.)
std::string looked_at(const fs::path& folder, const std::string& page, int width) {
  const fs::path probe = folder / "probe.html", dom = folder / "probe.dom";
  std::ofstream(probe) << fmt::format("<iframe style=\"width:{}px;height:800px;border:0\" srcdoc=\"{}\"></iframe>",
                                      width, as_attribute(page))
                       << R"(<script>addEventListener('load', () => {
    const w = document.querySelector('iframe').contentWindow, root = w.document.documentElement;
    const wide = root.clientWidth + 1;
    const out = [...w.document.querySelectorAll('main *')].filter(e => !e.closest('.scroll *') &&
      !e.closest('svg *') && e.getBoundingClientRect().right > wide);
    document.body.setAttribute('data-seen', 'width ' + w.innerWidth + ' plots ' +
      w.document.querySelectorAll('svg').length + ' fetched ' + w.performance.getEntriesByType('resource').length +
      ' beyond ' + out.length + ' scroll ' + (root.scrollWidth > wide)); });</script>)";
  const std::string command = fmt::format(
      "timeout 50 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --dump-dom file://{} > {} 2> "
      "/dev/null",
      probe.string(), dom.string());
  if (std::system(command.c_str()) != 0) return "chromium failed";
  const std::string text = read_file(dom);
  std::smatch seen;
  return std::regex_search(text, seen, std::regex("data-seen=\"([^\"]*)\"")) ? seen[1].str() : "nothing seen";
}

TEST_F(CompareTest, InABrowserNothingIsFetchedAndNothingOverflows) {
  if (!program_is_there("chromium")) GTEST_SKIP() << "no chromium";
  must_run(compare());
  const std::string page = read_file(path("cmp/report.html"));
  const int plots = program_is_there("gnuplot") ? 11 : 0;
  for (const int width : {1280, 390})
    EXPECT_EQ(looked_at(path(""), page, width),
              fmt::format("width {} plots {} fetched 0 beyond 0 scroll false", width, plots));
  // What the look is to find.
  const std::string wide = "<div style=\"width:2000px\">x</div><img src=\"http://127.0.0.1:47113/x.png\">";
  EXPECT_THAT(looked_at(path(""), std::regex_replace(page, std::regex("</main>"), wide + "</main>"), 390),
              testing::AllOf(HasSubstr("fetched 1"), HasSubstr("scroll true")));
}

}  // namespace
}  // namespace xlstm
