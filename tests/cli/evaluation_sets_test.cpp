// Several sets, samples and the best checkpoint, from the command line to the page.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

TEST_F(CliTest, SetsAndSamplesOfARun) {
  make_data();
  const Ended trained =
      run(train("run", {"--set", "eval.sets.more=data", "--set", "eval.prompts.0=the state", "--set", "eval.every=2",
                        "--set", "checkpoint.every=2", "--set", "eval.sample_tokens=4"}));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err, HasSubstr(", more loss "));
  EXPECT_EQ(metric(path("run"), "more_loss"), metric(path("run"), "validation_loss"));
  const Json first =
      Json::parse(read_file(path("run/samples.jsonl")).substr(0, read_file(path("run/samples.jsonl")).find('\n')));
  EXPECT_EQ(first.at("prompt"), "the state");
  const Json both =
      must_run({"eval", "--checkpoint", "run/checkpoints/BEST", "--data", "more", "--data", "validation", "--json"})
          .json();
  EXPECT_EQ(both.at("sets").at("more"), both.at("sets").at("validation"));
  EXPECT_EQ(must_run({"eval", "--checkpoint", "run/checkpoints/LATEST", "--json"}).json().at("loss").is_number(), true);
  must_run({"report", "run", "--out", "page.html"});
  EXPECT_THAT(read_file(path("page.html")), HasSubstr("<b>the state</b>"));
  expect_refused({"eval", "--checkpoint", "run", "--data", "nothere"}, {"nothere"});
  expect_refused(train("other", {"--set", "eval.sets.more=nothere"}), {"eval.sets.more: ", "nothere"});
  expect_refused(train("other", {"--set", "eval.sets=data"}), {"--set eval.sets=data", "a section of names"});
}

// A run may be told to evaluate on another text; that its losses then do not compare is said, and said once.
TEST_F(CliTest, AnotherTextBehindASetIsTold) {
  make_data();
  must_run(
      {"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "half", "--validation-fraction", "0.5"});
  fs::copy(path("data"), path("moved"), fs::copy_options::recursive);
  const auto started = [&](const std::string& stop_at, const std::string& set) {
    return run(train("run", {"--stop-at", stop_at, "--set", set, "--set", "eval.sets.more=" + set.substr(16)})).err;
  };
  const auto told = testing::AllOf(HasSubstr("warning: data.validation: another set than at the last start"),
                                   HasSubstr("warning: eval.sets.more: another set than at the last start"));
  started("2", "data.validation=data");
  EXPECT_THAT(started("4", "data.validation=moved"), testing::Not(HasSubstr("another set")));
  EXPECT_THAT(started("6", "data.validation=half"), told);
  EXPECT_THAT(started("8", "data.validation=half"), testing::Not(HasSubstr("another set")));
}

}  // namespace
}  // namespace xlstm
