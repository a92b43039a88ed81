// What the dialect's words do here: on a GPU, whether it does what the emulator and the kernels take for granted. When
// the cell fails on a new device, what fails here says why.
#include "tests/device/words.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/device/device.h"

namespace xlstm::test {
namespace {

using testing::ElementsAreArray;

class DeviceWords : public testing::Test {
 protected:
  // Any data, as words.
  template <class T>
  Tensor words(const std::vector<T>& values) {
    return device_.put(values, 1, sizeof(T) == 2 ? DType::bf16 : DType::i32);
  }
  Tensor blank(int words) { return device_.put(std::vector<std::int32_t>(static_cast<std::size_t>(words), -1)); }
  template <class T>
  std::vector<T> read(const Tensor& t) {
    const auto raw = device_.get<std::int32_t>(t);
    std::vector<T> values(raw.size() * 4 / sizeof(T));
    std::memcpy(values.data(), raw.data(), raw.size() * 4);
    return values;
  }
  template <class T>
  static T* at(const Tensor& t) {
    return reinterpret_cast<T*>(t.data);
  }

  TestDevice device_;
  Context& ctx_ = device_.ctx;
};

class HopperWords : public DeviceWords {
 protected:
  void SetUp() override {
    if (ctx_.gpu->info().architecture != kHopperArchitecture) GTEST_SKIP() << "words of sm_90a";
  }
};

// Small whole numbers: every sum is exact.
std::vector<bf16> small_numbers(int rows, int columns, int salt) {
  std::vector<bf16> x;
  for (int i = 0; i < rows * columns; ++i)
    x.push_back(to_bf16(static_cast<float>((i / columns * 7 + i % columns * 3 + salt) % 11 - 5)));
  return x;
}

TEST_F(DeviceWords, OfLanesAndNumbers) {
  const Tensor out = device_.put(std::vector<float>(32 * kLaneResults));
  run_lane_words(ctx_, at<float>(out));
  const auto got = device_.get<float>(out);
  for (int lane = 0; lane < 32; ++lane) {
    const auto x = static_cast<float>(lane + 1);
    const auto shifted = [&](int n) { return lane + n >= 0 && lane + n < 32 ? x + static_cast<float>(n) : x; };
    const std::uint32_t odd = 0xaaaaaaaau >> lane;
    const float want[kLaneResults] = {static_cast<float>((lane ^ 5) + 1),
                                      shifted(-3),
                                      shifted(3),
                                      8,
                                      x,
                                      -x,
                                      3 * x,
                                      -0.5F * x,
                                      static_cast<float>(__builtin_popcount(odd)),
                                      static_cast<float>(__builtin_ctz(static_cast<unsigned>(lane + 1))),
                                      std::exp2(x - 16),
                                      to_float(to_bf16(1 + 0.00390625F * x))};
    for (int i = 0; i < kLaneResults; ++i) {
      const float result = got[static_cast<std::size_t>(lane * kLaneResults + i)];
      if (i == 10)
        EXPECT_NEAR(result / want[i], 1, 3e-7) << "exp2_fast in lane " << lane;
      else
        EXPECT_EQ(result, want[i]) << "result " << i << " of lane " << lane;
    }
  }
}

TEST_F(DeviceWords, CopiesFillUpWithZeros) {
  std::vector<std::uint32_t> from;
  for (std::uint32_t i = 0; i < 128; ++i) from.push_back(0x01010101u * (i + 1));
  const Tensor in = words(from), out = blank(128);
  run_copy_words(ctx_, at<std::uint32_t>(out), at<std::uint32_t>(in));
  for (std::size_t byte = 0; byte < 512; ++byte) {
    auto* bytes = reinterpret_cast<unsigned char*>(from.data());
    if (byte % 16 >= byte / 16 % 17) bytes[byte] = 0;
  }
  EXPECT_THAT(read<std::uint32_t>(out), ElementsAreArray(from));
}

TEST_F(DeviceWords, OfMatrices) {
  const auto a = small_numbers(16, 16, 1), b = small_numbers(8, 16, 2);
  const Tensor left = words(a), right = words(b), loaded = blank(128), transposed = blank(128), c = blank(128);
  run_matrix_words(ctx_, at<std::uint32_t>(loaded), at<std::uint32_t>(transposed), at<float>(c), at<bf16>(left),
                   at<bf16>(right));
  const auto r = read<bf16>(loaded), t = read<bf16>(transposed);
  const auto element = [&](int row, int column) { return to_float(a[static_cast<std::size_t>(row * 16 + column)]); };
  for (int i = 0; i < 256; ++i) {  // matrices: rows 0 to 7, 8 to 15, then the other columns
    const int matrix = i / 64, lane = i / 2 % 32, one = lane / 4, two = lane % 4 * 2 + i % 2;
    const int row = matrix % 2 * 8, column = matrix / 2 * 8;
    EXPECT_EQ(to_float(r[static_cast<std::size_t>(i)]), element(row + one, column + two)) << i;
    EXPECT_EQ(to_float(t[static_cast<std::size_t>(i)]), element(row + two, column + one)) << i;
  }
  const auto y = read<float>(c);
  for (int i = 0; i < 128; ++i) {
    float want = 0;
    for (int k = 0; k < 16; ++k) want += element(i / 8, k) * to_float(b[static_cast<std::size_t>(i % 8 * 16 + k)]);
    EXPECT_EQ(y[static_cast<std::size_t>(i)], want) << i / 8 << ", " << i % 8;
  }
}

TEST_F(HopperWords, EveryProduct) {
  std::vector<ProductWords> products = {{.columns = 64, .registers = true},
                                        {.columns = 32, .transposed_a = true},
                                        {.columns = 72},
                                        {.columns = 64},
                                        {.columns = 64, .transposed_b = true},
                                        {.columns = 64, .transposed_a = true},
                                        {.columns = 64, .transposed_a = true, .transposed_b = true}};
  for (const int columns : {64, 128, 192, 256})
    products.push_back({.columns = columns, .registers = true, .transposed_b = true});
  for (ProductWords& p : products) {
    const int n = p.columns;
    const auto a = p.transposed_a ? small_numbers(32, 64, 1) : small_numbers(64, 32, 1);
    const auto b = p.transposed_b ? small_numbers(32, n, 2) : small_numbers(n, 32, 2);
    const Tensor left = words(a), right = words(b), c = blank(64 * n);
    p.a = at<bf16>(left), p.b = at<bf16>(right), p.c = at<float>(c);
    run_product_words(ctx_, p);
    std::vector<float> want;
    for (int i = 0; i < 64 * n; ++i) {
      float& sum = want.emplace_back(0);
      for (int k = 0; k < 32; ++k) {
        const int row = i / n, column = i % n;
        sum += to_float(a[static_cast<std::size_t>(p.transposed_a ? k * 64 + row : row * 32 + k)]) *
               to_float(b[static_cast<std::size_t>(p.transposed_b ? k * n + column : column * 32 + k)]);
      }
    }
    EXPECT_EQ(read<float>(c), want) << n << " columns, a in " << (p.registers ? "registers" : "shared memory")
                                    << (p.transposed_a ? ", a^T" : "") << (p.transposed_b ? ", b^T" : "");
  }
}

TEST_F(HopperWords, StoredMatrices) {
  std::vector<std::uint16_t> r;
  for (std::uint16_t i = 0; i < 256; ++i) r.push_back(static_cast<std::uint16_t>(i + 1));
  const Tensor in = words(r), stored = blank(128), transposed = blank(128);
  run_store_words(ctx_, at<std::uint32_t>(stored), at<std::uint32_t>(transposed), at<std::uint32_t>(in));
  EXPECT_EQ(read<std::uint16_t>(stored), r);  // lane 4 i + j holds elements 2 j and 2 j + 1 of row i
  const auto t = read<std::uint16_t>(transposed);
  for (std::size_t i = 0; i < 256; ++i)
    EXPECT_EQ(t[i], r[i / 64 * 64 + i % 8 * 8 + i / 8 % 8]) << "matrix " << i / 64 << ", element " << i % 64;
}

class HopperBoxes : public HopperWords {
 protected:
  static constexpr int kPlanes = 2, kRows = 40, kColumns = 88, kStride = 96;  // neither in boxes of 16 by 64

  static float element(int plane, int row, int column) {
    return static_cast<float>((plane * 97 + row * 13 + column * 5) % 251);
  }
  // 0 outside.
  static float inside(int plane, int row, int column) {
    return row < kRows && column < kColumns ? element(plane, row, column) : 0;
  }
  static std::size_t place(int plane, int row, int column) {
    return static_cast<std::size_t>((plane * kRows + row) * kStride + column);
  }
  std::vector<bf16> tensor() const {
    std::vector<bf16> x(place(kPlanes, 0, 0), to_bf16(-1.0F));  // what lies between rows
    for (int p = 0; p < kPlanes; ++p)
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c) x[place(p, r, c)] = to_bf16(element(p, r, c));
    return x;
  }
  static BoxWords box(const Tensor& x, int column, int row, int plane, int cluster = 1) {
    return {at<bf16>(x), kColumns, kRows, kPlanes, kStride, column, row, plane, cluster};
  }
};

// Rows of 128 bytes, of which row r has its pieces of 16 bytes in the order piece ^ (r % 8).
TEST_F(HopperBoxes, AreSwizzledAndFilledUp) {
  const Tensor x = words(tensor());
  for (const int cluster : {1, 2, 4})
    for (const int column : {0, 64}) {
      const Tensor out = blank(cluster * cluster * kBoxWords);
      run_box_loads(ctx_, box(x, column, 0, 1, cluster), at<std::uint32_t>(out));
      const auto got = read<bf16>(out);
      for (int i = 0; i < cluster * cluster * kBoxRows * 64; ++i) {
        const int row = i / 64 % (cluster * kBoxRows), piece = (i % 64 / 8) ^ (row % 8);
        ASSERT_EQ(to_float(got[static_cast<std::size_t>(i)]), inside(1, row, column + piece * 8 + i % 8))
            << "column " << column << ", CTA " << i / 64 / (cluster * kBoxRows) << " of " << cluster << ", row " << row
            << ", element " << i % 64;
      }
    }
}

TEST_F(HopperBoxes, StoreNothingOutside) {
  auto want = tensor();
  std::vector<bf16> from(kBoxRows * 64);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = to_bf16(static_cast<float>(i % 256));
  const Tensor x = words(want), in = words(from);
  run_box_store(ctx_, box(x, 64, 32, 0), at<std::uint32_t>(in));
  for (int r = 32; r < kRows; ++r)
    for (int c = 64; c < kColumns; ++c) want[place(0, r, c)] = from[static_cast<std::size_t>((r - 32) * 64 + c - 64)];
  const auto got = read<bf16>(x);
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(to_float(got[i]), to_float(want[i])) << i;
}

TEST_F(HopperWords, BytesInBulk) {
  std::vector<std::uint32_t> from(1024);
  for (std::uint32_t i = 0; i < 1024; ++i) from[i] = i * 2654435761u;
  const Tensor in = words(from);
  for (const int bytes : {16, 768, 4096}) {
    const Tensor out = blank(bytes / 4);
    run_byte_loads(ctx_, at<std::uint32_t>(out), at<std::uint32_t>(in), bytes);
    EXPECT_EQ(read<std::uint32_t>(out), std::vector(from.begin(), from.begin() + bytes / 4));
  }
}

TEST_F(HopperWords, BarriersAreHandedAroundClusters) {
  for (const int cluster : {1, 2, 4}) {
    constexpr int kRounds = 9;
    const Tensor out = blank(cluster * kRounds);
    run_barrier_words(ctx_, at<std::int32_t>(out), cluster, kRounds);
    std::vector<std::int32_t> want(static_cast<std::size_t>(cluster) * kRounds);
    for (int i = 0; i < cluster * kRounds; ++i) want[i] = i % kRounds * 16 + i / kRounds;
    EXPECT_EQ(read<std::int32_t>(out), want) << cluster << " CTAs";
  }
}

TEST_F(HopperWords, WarpgroupsShareRegistersAndNamedBarriers) {
  const Tensor out = blank(384);
  run_warpgroup_words(ctx_, at<std::int32_t>(out));
  std::vector<std::int32_t> want;
  for (int i = 0; i < 128; ++i) want.insert(want.end(), {i + 1, (i ^ 32) + 1001, i + 2001});
  EXPECT_EQ(read<std::int32_t>(out), want);
}

}  // namespace
}  // namespace xlstm::test
