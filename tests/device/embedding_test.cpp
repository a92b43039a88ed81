// The gradient of a table where a CTA has several ids, where lists run full, and where ids are wrong.
#include <gmock/gmock.h>

#include <cmath>

#include "core/random.h"
#include "tests/device/device.h"

namespace xlstm::test {
namespace {

// dtable starts as 1; whole numbers, so every order gives the same sum.
void expect_gradient(i64 vocab, i64 cols, const std::vector<std::int32_t>& ids) {
  std::vector<float> want(static_cast<std::size_t>(vocab * cols), 1), dy;
  for (std::size_t r = 0; r < ids.size(); ++r)
    for (i64 c = 0; c < cols; ++c) {
      dy.push_back(static_cast<float>((static_cast<i64>(r) * 7 + c * 3) % 32));
      if (0 <= ids[r] && ids[r] < vocab) want[static_cast<std::size_t>(ids[r] * cols + c)] += dy.back();
    }
  TestDevice device;
  const Tensor dtable = device.put(std::vector<float>(want.size(), 1), vocab);
  ops::embedding_backward(device.ctx, dtable, device.put(dy, static_cast<i64>(ids.size())), device.put(ids));
  EXPECT_EQ(device.get<float>(dtable), want);
}

TEST(EmulatedEmbedding, ManyIdsOfOneCta) {
  const RandomStream random(1, RandomUse::test);
  std::vector<std::int32_t> ids;
  for (std::uint64_t r = 0; r < 700; ++r) {
    const std::uint64_t id = random.bits(r) % 2500;
    ids.push_back(static_cast<std::int32_t>(r % 3 == 0 ? id % 2 * 2048 + 5 : id));  // some often, of one CTA
  }
  expect_gradient(2500, 3, ids);
}

TEST(EmulatedEmbedding, OneIdFillsTheListsOverAndOver) {
  std::vector<std::int32_t> ids(9001, 1);
  for (std::size_t r = 0; r < ids.size(); r += 10) ids[r] = static_cast<std::int32_t>(r / 10 % 3);
  expect_gradient(3, 4, ids);
}

TEST(EmulatedEmbedding, UnknownIdsWriteNothingAndGiveNaN) {
  const std::vector<std::int32_t> ids{0, -1, 6, 5, 7, 1 << 30, -(1 << 30), 8};
  expect_gradient(6, 4, ids);
  TestDevice device;
  const Tensor y = device.put(std::vector<float>(8 * 4), 8);
  ops::embedding_forward(device.ctx, y, device.put(ids), device.put(std::vector<float>(6 * 4, 2), 6));
  const std::vector<float> values = device.get<float>(y);
  for (std::size_t r = 0; r < ids.size(); ++r)
    EXPECT_EQ(values[4 * r] == 2, 0 <= ids[r] && ids[r] < 6) << "row " << r << ": " << values[4 * r];
}

}  // namespace
}  // namespace xlstm::test
