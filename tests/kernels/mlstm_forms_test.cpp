// Recurrent, parallel and chunkwise are one function (spec §3.5): of the references, and of the ops.
#include <gtest/gtest.h>

#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

constexpr i64 kChunks[] = {1, 2, 3, 7, 16, 64, 128};  // 128 is more than any T: the parallel form

void expect_same(const MlstmResult& got, const MlstmResult& want, double tolerance, const std::string& what) {
  EXPECT_LE(worst_error(got.h, want.h), tolerance) << what << ": h";
  EXPECT_LE(worst_error(got.c, want.c), tolerance) << what << ": c";
  EXPECT_LE(worst_error(got.n, want.n), tolerance) << what << ": n";
  EXPECT_LE(worst_error(got.m, want.m), tolerance) << what << ": m";
  if (got.denominator.empty()) return;
  EXPECT_LE(worst_error(got.denominator, want.denominator), tolerance) << what << ": denominator";
  EXPECT_LE(worst_error(got.max, want.max), tolerance) << what << ": max";
}

MlstmResult definition(const MlstmCase& x) {
  return run_reference(x, [](const auto& in) { return ref::mlstm_recurrent(in); });
}

std::vector<MlstmCase> cases() {
  std::vector<MlstmCase> all;
  for (const bool normalize : {true, false})
    for (const bool with_states : {false, true}) {
      all.push_back(random_case(1, 1, 1, 1, 1, normalize, 1, with_states));
      all.push_back(random_case(2, 50, 3, 5, 7, normalize, 2, with_states));
      all.push_back(random_case(1, 70, 1, 33, 130, normalize, 3, with_states));  // several value blocks, ragged
      all.push_back(random_case(1, 20, 20, 4, 16, normalize, 4, with_states));
      MlstmCase reset = random_case(2, 50, 2, 6, 10, normalize, 5, with_states);
      for (const i64 r : {7, 15, 16, 17, 18, 64, 65, 99}) reset.log_f[r * 2] = reset.log_f[r * 2 + 1] = ref::kMinusInf;
      reset.log_f[0] = ref::kMinusInf;
      all.push_back(reset);
    }
  return all;
}

TEST(MlstmForms, ReferencesAgree) {
  for (const MlstmCase& x : cases()) {
    if (x.T * x.K * x.V > 20000) continue;
    const MlstmResult want = definition(x);
    expect_same(run_reference(x, [](const auto& in) { return ref::mlstm_recurrent_stabilised(in); }), want, 1e-12,
                "stabilised");
    expect_same(run_reference(x, [](const auto& in) { return ref::mlstm_parallel(in); }), want, 1e-12, "parallel");
    expect_same(run_reference(x, [](const auto& in) { return ref::mlstm_chunkwise(in, 7); }), want, 1e-12, "chunkwise");
  }
}

TEST(MlstmForms, OpsMeanTheRecurrence) {
  for (const MlstmCase& x : cases()) {
    const MlstmResult want = definition(x);
    for (const CpuIsa isa : usable_isas()) {
      SCOPED_TRACE(name_of(isa));
      expect_same(run_mlstm_step<double>(x, {.isa = isa}), want, 1e-12, "step");
      for (const i64 chunk : kChunks)
        expect_same(run_mlstm<double>(x, {.chunk = chunk, .isa = isa}), want, 1e-12, fmt::format("chunk {}", chunk));
    }
  }
}

}  // namespace
}  // namespace xlstm
