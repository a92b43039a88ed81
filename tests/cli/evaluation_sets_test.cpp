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

}  // namespace
}  // namespace xlstm
