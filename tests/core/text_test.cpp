// What people read: sizes, counts, durations, "did you mean".
#include "core/text.h"

#include <cmath>

#include "core/json.h"
#include "tests/core/support.h"

namespace xlstm {
namespace {

TEST(Text, Sizes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(i64{5} << 30), "5.00 GiB");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(12'345), "12.3 k");
  EXPECT_EQ(human_count(406.9e6), "406.9 M");
  EXPECT_EQ(human_count(1.42e9), "1.42 B");
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(12), "12");
  EXPECT_EQ(human_count(0.0417), "0.0417");
  EXPECT_EQ(human_count(7.256), "7.26");
  EXPECT_EQ(human_count(99.96), "100");
}

TEST(Text, Durations) {
  EXPECT_EQ(human_duration(4.06), "4.1 s");
  EXPECT_EQ(human_duration(200), "3 min 20 s");
  EXPECT_EQ(human_duration(2 * 3600 + 5 * 60), "2 h 05 min");
  EXPECT_EQ(human_duration(49.5 * 3600), "2 d 01 h");
  EXPECT_EQ(human_duration(INFINITY), "?");
}

TEST(Text, Nearest) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("same", "same"), 0u);
  const std::vector<std::string> keys = {"steps", "batch_size", "micro_batch_size"};
  EXPECT_EQ(nearest("step", keys), "steps");
  EXPECT_EQ(nearest("batchsize", keys), "batch_size");
  EXPECT_EQ(nearest("xyz", keys), "");
  EXPECT_EQ(did_you_mean("stpes", keys), "; did you mean 'steps'?");
  EXPECT_EQ(did_you_mean("zzz", keys), "");
}

TEST(Text, JsonSurvivesAnyBytes) {
  EXPECT_EQ(to_text({{"path", "a\xff"}}), "{\"path\":\"a\uFFFD\"}");
  EXPECT_EQ(to_text({{"b", 1}, {"a", 2}}, 1), "{\n \"b\": 1,\n \"a\": 2\n}");
}

}  // namespace
}  // namespace xlstm
