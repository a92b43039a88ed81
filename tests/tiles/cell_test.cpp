// The cell in bf16 on the CPU against the definition in f64: in registers, and on AMX's tiles. These are emulated in
// tiles_test, the processor's in kernels_test.
#include "tests/kernels/mlstm_case.h"
#include "tests/support/op_case.h"

namespace xlstm {
namespace {

struct Kind {
  CpuIsa isa;
  bool exp;
};
std::vector<Kind> kinds() {
  std::vector<Kind> all;
  for (const test::Target& target : test::targets())
    if (target.device == Device::cpu)
      for (const bool exp : {true, false}) all.push_back({target.isa, exp});
  return all;
}

class CellInBf16 : public testing::TestWithParam<Kind> {
 protected:
  static MlstmCase random(i64 B, i64 T, i64 H, i64 K, i64 V, std::uint64_t seed, bool with_states, double i_mean = -1) {
    return rounded_case(B, T, H, K, V, GetParam().exp, seed, with_states, i_mean);
  }
  static MlstmResult run(const MlstmCase& x, i64 chunk = 64, bool fused = false, int threads = 1) {
    return run_mlstm<bf16>(x, {.chunk = chunk, .isa = GetParam().isa, .threads = threads, .fused = fused});
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, CellInBf16, testing::ValuesIn(kinds()), [](const auto& p) {
  return std::string(name_of(p.param.isa)) + (p.param.exp ? "_exp" : "_sigmoid");
});

TEST_P(CellInBf16, HeadSizes) {
  for (const auto& [K, V] : {std::pair{1, 3}, {8, 16}, {31, 33}, {64, 128}, {128, 200}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}", K, V));
    for (const bool with_states : {false, true}) {
      const MlstmCase x = random(1, 100, 2, K, V, 2, with_states);
      expect_bf16_cell(x, run(x));
    }
  }
}

TEST_P(CellInBf16, AnyLengthAndChunk) {
  for (const i64 T : {1, 2, 31, 64, 65, 191})
    for (const i64 chunk : {16, 32, 64, 100}) {
      SCOPED_TRACE(fmt::format("T {}, chunk {}", T, chunk));
      const MlstmCase x = random(2, T, 1, 24, 40, 3, T % 2 == 0);
      expect_bf16_cell(x, run(x, chunk));
    }
}

TEST_P(CellInBf16, Resets) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = random(2, 200, 2, 16, 48, 4, with_states);
    for (const i64 r : {0, 5, 31, 32, 63, 64, 65, 66, 130, 200, 263, 391})
      x.log_f[r * 2] = x.log_f[r * 2 + 1] = ref::kMinusInf;
    x.log_f[20 * 2] = ref::kMinusInf;  // of one head alone
    expect_bf16_cell(x, run(x));
  }
}

// More chunks than the backward pass has states of in memory, and segments that end where these do.
TEST_P(CellInBf16, ManyChunks) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = random(1, 191, 2, 16, 40, 8, with_states);
    for (const i64 r : {63, 64, 65, 128}) x.log_f[r * 2] = x.log_f[r * 2 + 1] = ref::kMinusInf;
    expect_bf16_cell(x, run(x, 4));
  }
}

// Values of a document do not reach the next one.
TEST_P(CellInBf16, NothingCrossesAReset) {
  MlstmCase x = random(1, 150, 1, 16, 16, 5, true), y = x;
  for (const i64 r : {40, 80}) x.log_f[r] = y.log_f[r] = ref::kMinusInf;
  for (i64 i = 0; i < 80 * 16; ++i) y.v[i] *= 0x1p100;
  const MlstmResult a = run(x), b = run(y);
  const auto behind = [](const Values& values) { return Values(values.begin() + 80 * 16, values.end()); };
  EXPECT_EQ(behind(a.h), behind(b.h));
  EXPECT_EQ(behind(a.dq), behind(b.dq));
  EXPECT_EQ(a.c, b.c);
}

// Input gates all but shut, all open, and maxima that jump.
TEST_P(CellInBf16, ExtremeGates) {
  for (const double mean : {-15., -10., 15.}) {
    SCOPED_TRACE(mean);
    MlstmCase x = random(1, 130, 1, 32, 32, 6, true, mean);
    if (x.normalize)
      for (const i64 jump : {30, 70, 128}) x.log_i[jump] += 25;
    expect_bf16_cell(x, run(x));
  }
}

// Rows of q, k and v in wider ones; and as many threads as there are tasks, or fewer.
TEST_P(CellInBf16, StridesAndThreadsDoNotShowInTheBits) {
  const MlstmCase x = random(2, 90, 3, 24, 150, 7, true);
  const MlstmResult want = run(x);
  for (const int threads : {1, 2, 3}) {
    const MlstmResult got = run(x, 64, /*fused=*/true, threads);
    EXPECT_EQ(got.h, want.h);
    EXPECT_EQ(got.dq, want.dq);
    EXPECT_EQ(got.dk, want.dk);
    EXPECT_EQ(got.dv, want.dv);
    EXPECT_EQ(got.dlog_f, want.dlog_f);
    EXPECT_EQ(got.c, want.c);
  }
}

}  // namespace
}  // namespace xlstm
