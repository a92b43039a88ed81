// wgmma in the emulator: every layout of its operands, and every way to use it wrongly.
#include "kernels/cuda/dialect_hopper.h"
#include "tests/emulated/support.h"

namespace xlstm {
namespace {

using namespace dialect;
using emulator::Arrival;
using testing::HasSubstr;

constexpr std::uint32_t kPanel = 8192;  // 64 rows of 128 bytes
constexpr std::size_t kBytes = 4 * kPanel;
constexpr std::uint32_t kLeft = 0, kRight = kPanel;

std::uint32_t at(std::uint32_t offset) { return shared_begin() + offset; }
// Small whole numbers: every sum is exact.
float left(int m, int k) { return static_cast<float>((m * 7 + k * 3) % 11 - 5); }
float right(int k, int n) { return static_cast<float>((k * 5 + n * 2) % 13 - 6); }

// Panels of 64 columns: element (r, c) is f(r, c); rows of 128 bytes, swizzled.
template <class F>
void fill_panels(std::uint32_t to, int rows, int columns, F&& f) {
  for (int i = thread_index(); i < rows * columns / 2; i += kEmulatedThreads) {
    const int r = i / (columns / 2), c = i % (columns / 2) * 2;
    const auto offset = static_cast<std::uint32_t>(c / 64 * static_cast<int>(kPanel) + r * 128 + c % 64 * 2);
    shared_store(emulator::swizzled(at(to + offset)), pack_bf16(f(r, c), f(r, c + 1)));
  }
}
void publish() {
  publish_to_async();
  sync_cta();
}

// Accumulator j of this thread is element (row, column) of the product.
int row_of(int j) { return thread_index() / 32 * 16 + lane_index() / 4 + (j & 2) * 4; }
int column_of(int j) { return j / 4 * 8 + lane_index() % 4 * 2 + j % 2; }

template <int kEach>
void expect_product(const float (&c)[kEach], int ks, float before) {
  for (int j = 0; j < kEach; ++j) {
    float want = before;
    for (int k = 0; k < ks; ++k) want += left(row_of(j), k) * right(k, column_of(j));
    EXPECT_EQ(c[j], want) << row_of(j) << ", " << column_of(j);
  }
}

template <int N, bool kTransposeA, bool kTransposeB>
void shared_product() {
  if (kTransposeA)
    fill_panels(kLeft, 32, 64, [](int k, int m) { return left(m, k); });
  else
    fill_panels(kLeft, 64, 64, [](int m, int k) { return left(m, k); });
  if (kTransposeB)
    fill_panels(kRight, 32, N, [](int k, int n) { return right(k, n); });
  else
    fill_panels(kRight, N, 64, [](int n, int k) { return right(k, n); });
  publish();
  float c[N / 2];
  for (float& x : c) x = 100;
  wgmma_fence();
  for (std::uint32_t step = 0; step < 2; ++step)
    wgmma_shared<kTransposeA, kTransposeB>(
        c, kTransposeA ? columns_descriptor(at(kLeft) + step * 2048, kPanel) : rows_descriptor(at(kLeft) + step * 32),
        kTransposeB ? columns_descriptor(at(kRight) + step * 2048, kPanel) : rows_descriptor(at(kRight) + step * 32),
        step != 0);
  wgmma_commit();
  wgmma_wait<0>();
  settled(c);
  expect_product(c, 32, 0);
}

TEST(Wgmma, EveryLayoutOfItsOperands) {
  for (const Arrival arrival : {Arrival::late, Arrival::immediate}) {
    const Emulated how{arrival, kBytes};
    EXPECT_EQ(fault_of([] { shared_product<64, false, false>(); }, how), "");
    EXPECT_EQ(fault_of([] { shared_product<72, false, false>(); }, how), "");
    EXPECT_EQ(fault_of([] { shared_product<64, true, false>(); }, how), "");
    EXPECT_EQ(fault_of([] { shared_product<32, true, false>(); }, how), "");
    EXPECT_EQ(fault_of([] { shared_product<64, false, true>(); }, how), "");
    EXPECT_EQ(fault_of([] { shared_product<128, true, true>(); }, how), "");
  }
}

// What may go wrong around one product with its left operand in registers.
struct Fault {
  bool no_fence = false, early = false, overwrites_a = false, overwrites_b = false, no_wait = false,
       overwrites_c = false, unpublished = false;
};

void register_product(Fault fault) {
  fill_panels(kRight, 64, 64, [](int n, int k) { return right(k, n); });
  if (fault.unpublished)
    sync_cta();
  else
    publish();
  std::uint32_t a[4];
  for (int j = 0; j < 4; ++j) {
    const int k = lane_index() % 4 * 2 + j / 2 * 8, m = thread_index() / 32 * 16 + lane_index() / 4 + j % 2 * 8;
    a[j] = pack_bf16(left(m, k), left(m, k + 1));
  }
  float c[32] = {};
  if (!fault.no_fence) wgmma_fence();
  wgmma<false>(c, a, rows_descriptor(at(kRight)), true);
  wgmma_commit();
  if (fault.early) settled(c);
  if (fault.overwrites_a) a[1] = 0;
  if (fault.overwrites_c) c[3] = 0;
  if (fault.overwrites_b) {
    sync_cta();
    if (thread_index() == 0) shared_store(at(kRight), 0u);
  }
  if (fault.no_wait) return;
  wgmma_wait<0>();
  settled(c);
  expect_product(c, 16, 0);
}

TEST(Wgmma, EveryFaultIsFound) {
  const auto fault = [](Fault f, Arrival arrival = Arrival::late) {
    return fault_of([&] { register_product(f); }, {arrival, kBytes});
  };
  for (const Arrival arrival : {Arrival::late, Arrival::immediate}) {
    EXPECT_EQ(fault({}, arrival), "");
    EXPECT_THAT(fault({.no_fence = true}, arrival), HasSubstr("no wgmma_fence()"));
    EXPECT_THAT(fault({.early = true}, arrival), HasSubstr("used before the product was waited for"));
    EXPECT_THAT(fault({.overwrites_a = true}, arrival), HasSubstr("registers of A"));
    EXPECT_THAT(fault({.overwrites_c = true}, arrival), HasSubstr("accumulators were written"));
    EXPECT_THAT(fault({.overwrites_b = true}, arrival), HasSubstr("written while it is read asynchronously"));
    EXPECT_THAT(fault({.unpublished = true}, arrival), HasSubstr("has not published it"));
    EXPECT_THAT(fault({.no_wait = true}, arrival), HasSubstr("never waited for"));
  }
}

TEST(Wgmma, AccumulatorsKeepTheirShape) {
  const auto kernel = [] {
    fill_panels(kRight, 64, 64, [](int n, int k) { return right(k, n); });
    publish();
    std::uint32_t a[4] = {};
    float c[64] = {};
    wgmma_fence();
    wgmma<true>(c, a, columns_descriptor(at(kRight), kPanel), true);
    wgmma<false>(reinterpret_cast<float(&)[32]>(c), a, rows_descriptor(at(kRight)), true);
  };
  EXPECT_THAT(fault_of(kernel, {Arrival::late, kBytes}), HasSubstr("in another shape"));
}

// Another stride between groups of eight rows, or between panels, is another operand.
TEST(Wgmma, DescriptorsAreTakenAtTheirWord) {
  const auto differs = [](bool transposed, std::uint64_t mask) {
    int different = 0;
    const auto kernel = [&] {
      if (transposed)
        fill_panels(kRight, 32, 128, [](int k, int n) { return right(k, n); });
      else
        fill_panels(kRight, 64, 64, [](int n, int k) { return right(k, n); });
      publish();
      std::uint32_t a[4];
      for (std::uint32_t& pair : a) pair = pack_bf16(1.F, 1.F);
      float c[64] = {};
      wgmma_fence();
      const Descriptor b = transposed ? columns_descriptor(at(kRight), kPanel) : rows_descriptor(at(kRight));
      if (transposed)
        wgmma<true>(c, a, b ^ mask, true);
      else
        wgmma<false>(reinterpret_cast<float(&)[32]>(c), a, b ^ mask, true);
      wgmma_commit();
      wgmma_wait<0>();
      settled(c);
      for (int j = 0; j < (transposed ? 64 : 32); ++j) {
        float want = 0;
        for (int k = 0; k < 16; ++k) want += right(k, column_of(j));
        different += !(c[j] == want);
      }
    };
    const std::string fault = fault_of(kernel, {Arrival::late, kBytes});
    return fault.empty() ? different : -1;
  };
  for (const bool transposed : {false, true}) {
    EXPECT_EQ(differs(transposed, 0), 0);
    EXPECT_NE(differs(transposed, 32ull << 32), 0) << "stride";
  }
  EXPECT_NE(differs(true, 1ull << 16), 0) << "leading";
}

TEST(Wgmma, OnlyOneSwizzleIsKnown) {
  const auto kernel = [] {
    float c[32] = {};
    wgmma_fence();
    wgmma_shared<false, false>(c, rows_descriptor(at(0)) & ~(3ull << 62), rows_descriptor(at(0)), true);
  };
  EXPECT_THAT(fault_of(kernel, {Arrival::late, kBytes}), HasSubstr("swizzle"));
}

TEST(Wgmma, StoredMatricesAreLoadedBack) {
  const auto kernel = [](bool transposed) {
    const std::uint32_t place = at(static_cast<std::uint32_t>(warp_index()) * 512);
    const std::uint32_t mine = place + static_cast<std::uint32_t>(lane_index()) * 16;
    std::uint32_t r[4], back[4];
    for (int j = 0; j < 4; ++j) r[j] = pack_bf16(static_cast<float>(j * 64 + lane_index()), 0.5F);
    if (transposed)
      store_matrices_transposed(mine, r);
    else
      store_matrices(mine, r);
    if (transposed)
      load_matrices_transposed(back, mine);
    else
      load_matrices(back, mine);
    for (int j = 0; j < 4; ++j) EXPECT_EQ(back[j], r[j]);
    if (transposed) {
      EXPECT_EQ(low_half(shared_load<std::uint32_t>(place)), 0.F);
      EXPECT_EQ(high_half(shared_load<std::uint32_t>(place)), 4.F);
    }
  };
  EXPECT_EQ(fault_of([&] { kernel(false); }), "");
  EXPECT_EQ(fault_of([&] { kernel(true); }), "");
}

}  // namespace
}  // namespace xlstm
