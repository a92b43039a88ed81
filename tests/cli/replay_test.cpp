// xlstm replay as a user meets it, after a run that the guard has stopped.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class ReplayCommand : public CliTest {
 protected:
  void SetUp() override {
    make_data();
    const Ended ended = run(train("run", {"--set", "optimizer.lr=1e30", "--set", "guard.max_skips=0"}));
    ASSERT_EQ(ended.code, 3) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("xlstm replay run/anomalies/step_00000002"));
  }
};

TEST_F(ReplayCommand, TellsWhatWasWrongAndWhetherItIsEqual) {
  const Ended told = must_run({"replay", "run/anomalies/step_00000002"});
  EXPECT_THAT(told.out, testing::AllOf(HasSubstr("equal to the bit"), HasSubstr("first not finite: "),
                                       HasSubstr("blocks.0"), HasSubstr("skipped for its loss")));
  const Json json = must_run({"replay", "run/anomalies/step_00000002/", "--json"}).json();
  EXPECT_EQ(json.at("equal"), true);
  EXPECT_EQ(json.at("step"), 2);
  EXPECT_EQ(json.at("recorded").at("loss"), "nan");
  EXPECT_TRUE(json.at("recorded").at("layer_grad_norms").contains("head"));
  EXPECT_TRUE(json.at("first_not_finite").is_string());
  const std::string page = must_run({"report", "run", "--out", "page.html"}).out;
  EXPECT_THAT(read_file(path("page.html")), HasSubstr("evidence in anomalies/step_00000002"));
}

TEST_F(ReplayCommand, RefusesWhatIsNoEvidence) {
  expect_refused({"replay", "nothere"}, {"nothere", "no evidence there"});
  expect_refused({"replay", "run"}, {"run", "no evidence there"});
  flip_bit(path("run/anomalies/step_00000002/batch.safetensors"), 700);
  expect_refused({"replay", "run/anomalies/step_00000002"}, {"batch.safetensors", "damaged"});
  flip_bit(path("run/anomalies/step_00000002/anomaly.json"), 50);
  expect_refused({"replay", "run/anomalies/step_00000002"}, {"anomaly.json", "checksum"});
}

TEST_F(ReplayCommand, NeedsTheWeights) {
  fs::remove_all(path("run/anomalies/weights"));
  expect_refused({"replay", "run/anomalies/step_00000002"}, {"weights", "not there any more"});
}

}  // namespace
}  // namespace xlstm
