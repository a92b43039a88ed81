// Sums in f64, cut by shape alone: parts of a tensor, each by one CTA, then the parts.
#include <algorithm>

#include "kernels/cuda/cta_sums.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kSharedBytes = 8 * kWarps;

enum class Term { value, square };
enum class Access { wide, single, strided };

// to_b = sum over elements [b, b + 1) part of x, read row by row. Every product of two f32 is exact in f64.
struct PartSums {
  Rows<double> to;
  Rows<float> x;
  i64 cols, size, part;
};

template <Term kTerm>
XL_DEVICE double term(float x) {
  return kTerm == Term::square ? static_cast<double>(x) * x : x;
}

template <Term kTerm, Access kAccess>
XL_KERNEL(kThreads, 4)
sum_parts(const PartSums s) {
  constexpr int W = kAccess == Access::wide ? 4 : 1;
  const i64 begin = block_index().x * s.part, end = begin + s.part < s.size ? begin + s.part : s.size;
  double sum[W] = {};
  i64 at = begin + thread_index() * W;
  for (; at + W <= end; at += kThreads * W) {
    float x[W];
    load_floats<W>(x, kAccess == Access::strided ? s.x.row(at / s.cols) + at % s.cols : s.x.data + at);
    XL_UNROLL
    for (int j = 0; j < W; ++j) sum[j] += term<kTerm>(x[j]);
  }
  for (; at < end; ++at) sum[0] += term<kTerm>(global_load(s.x.data + at));  // of one thread: less than W
  double total = sum[0];
  for (int j = 1; j < W; ++j) total += sum[j];
  total = cta_sum<kWarps>(total, shared_begin());
  if (thread_index() == 0) global_store(s.to.row(block_index().x), total);
}

struct SumOfParts {
  double* to;
  const double* parts;
  int count;
};

XL_KERNEL(kThreads, 1)
sum_of_parts(const SumOfParts s) {
  double total = 0;
  for (int i = thread_index(); i < s.count; i += kThreads) total += global_load(s.parts + i);
  total = cta_sum<kWarps>(total, shared_begin());
  if (thread_index() == 0) global_store(s.to, total);
}

template <Term kTerm>
void start(Context& ctx, const PartSums& s) {
  const LaunchShape shape{.x = (s.size + s.part - 1) / s.part, .threads = kThreads, .shared_bytes = kSharedBytes};
  if (s.cols < s.size)
    launch(ctx, shape, &sum_parts<kTerm, Access::strided>, s);
  else if (reinterpret_cast<std::uintptr_t>(s.x.data) % 16 == 0 && s.part % 4 == 0)
    launch(ctx, shape, &sum_parts<kTerm, Access::wide>, s);
  else
    launch(ctx, shape, &sum_parts<kTerm, Access::single>, s);
}

}  // namespace

void sum(Context& ctx, Tensor out, Tensor x) {
  check_shape(out, 1, 1, DType::f64);
  check_shape(x, x.rows, x.cols, DType::f32);
  if (x.dense() && x.size() > 0) x = x.flat();
  constexpr i64 kMostParts = 1024, kSmallest = 1 << 12;
  const i64 part = std::max(kSmallest, ((x.size() + kMostParts - 1) / kMostParts + 3) / 4 * 4);
  auto* const parts = reinterpret_cast<double*>(ctx.gpu->workspace);
  start<Term::value>(ctx, {{parts, 1}, rows_of<float>(x), x.cols, x.size(), part});
  launch(ctx, {.threads = kThreads, .shared_bytes = kSharedBytes}, &sum_of_parts,
         {out.row<double>(), parts, static_cast<int>((x.size() + part - 1) / part)});
}

void sum_squares(Context& ctx, Tensor out, Tensor x) {
  check_shape(x, 1, x.cols, DType::f32);
  check_shape(out, sum_blocks(x.cols), 1, DType::f64);
  start<Term::square>(ctx, {rows_of<double>(out), rows_of<float>(x), x.cols, x.cols, kSumBlock});
}

}  // namespace xlstm::gpu
