#include "train/checkpoint_diff.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

struct CheckpointDiffTest : TemporaryFolder {
  CheckpointReader saved(const std::string& name, const CheckpointContent& content) {
    fs::create_directory(dir / name);
    write_checkpoint(dir / name, content);
    return CheckpointReader(dir / name);
  }
};

TEST_F(CheckpointDiffTest, TheSameIsIdentical) {
  SmallRun run;
  const CheckpointDifference d = compare_checkpoints(saved("a", run.at_step(1)), saved("b", run.at_step(1)));
  EXPECT_TRUE(d.identical());
  EXPECT_EQ(d.params_compared, 3);
  EXPECT_EQ(d.optimizer_compared, 2);
}

TEST_F(CheckpointDiffTest, ValuesAreMeasured) {
  Tensors t;
  float* w = t.add("w", DType::f32, 1, 4).row<float>();
  const Tensor narrow = t.add("n", DType::bf16, 1, 2);
  for (const int i : {0, 1, 2, 3}) w[i] = static_cast<float>(i - 8);
  const CheckpointReader a = saved("a", {.params = t.list});
  w[1] += 2;
  w[3] -= 1;
  const std::uint16_t four = 0x4080;  // 0 becomes 4
  std::memcpy(narrow.data + 2, &four, 2);
  const CheckpointDifference d = compare_checkpoints(a, saved("b", {.params = t.list}));
  ASSERT_EQ(d.params.size(), 2u);
  EXPECT_EQ(d.params[0].name, "w");
  EXPECT_EQ(d.params[0].different_values, 2);
  EXPECT_EQ(d.params[0].max_abs, 2);
  EXPECT_EQ(d.params[0].max_rel, 2.0 / 8);
  EXPECT_EQ(d.params[1].different_values, 1);
  EXPECT_EQ(d.params[1].max_abs, 4);
  EXPECT_FALSE(d.identical());
  EXPECT_TRUE(d.same_step && d.state.empty());
}

TEST_F(CheckpointDiffTest, OneThatIsNoNumberIsInfinitelyFar) {
  Tensors t;
  float* w = t.add("w", DType::f32, 1, 2).row<float>();
  const CheckpointReader a = saved("a", {.params = t.list});
  w[0] = std::numeric_limits<float>::quiet_NaN();
  const CheckpointDifference d = compare_checkpoints(a, saved("b", {.params = t.list}));
  ASSERT_EQ(d.params.size(), 1u);
  EXPECT_TRUE(std::isinf(d.params[0].max_abs));
}

TEST_F(CheckpointDiffTest, NamesShapesStepAndStateAreCompared) {
  SmallRun run;
  const CheckpointReader a = saved("a", run.at_step(1));
  CheckpointContent other = run.at_step(1);
  other.step = 2;
  other.state["position"] = 11;
  other.params[0].value.rows = 4;
  other.params[2].name = "renamed";
  const CheckpointDifference d = compare_checkpoints(a, saved("b", other));
  ASSERT_EQ(d.params.size(), 3u);
  EXPECT_EQ(d.params[0].kind, "shape or type");
  EXPECT_EQ(d.params[0].in_a, "f32 [5, 3]");
  EXPECT_EQ(d.params[0].in_b, "f32 [4, 3]");
  EXPECT_EQ(d.params[1].kind, "only in A");
  EXPECT_EQ(d.params[2].kind, "only in B");
  EXPECT_EQ(d.params[2].name, "renamed");
  EXPECT_TRUE(d.optimizer.empty());
  EXPECT_FALSE(d.same_step);
  EXPECT_FALSE(d.state.empty());
}

}  // namespace
}  // namespace xlstm
