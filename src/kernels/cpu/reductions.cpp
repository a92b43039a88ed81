// Sums in f64: of a whole tensor in at most 64 parts, cut by shape alone and added as a binary tree; of squares by
// block.
#include <array>

#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

typedef float FloatLanes __attribute__((vector_size(kVectorBytes / 2)));

inline Vec<double> load_wide(const double* p) { return Vec<double>::load(p); }
inline Vec<double> load_wide(const float* p) {
  FloatLanes x;
  std::memcpy(&x, p, sizeof x);
  return Vec<double>(__builtin_convertvector(x, Vec<double>::V));
}

struct Identity {
  template <class X>
  X operator()(X x) const {
    return x;
  }
};
struct Square {
  template <class X>
  X operator()(X x) const {
    return x * x;
  }
};

template <class T, class F>
double sum_range(const T* x, i64 n, F f) {
  constexpr i64 kWidth = Vec<double>::kWidth;
  std::array<Vec<double>, 4> lanes;  // four chains hide the latency of an addition
  lanes.fill(Vec<double>(0.0));
  i64 i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth)
    for (std::size_t k = 0; k < 4; ++k) lanes[k] += f(load_wide(x + i + static_cast<i64>(k) * kWidth));
  double rest = 0;
  for (; i < n; ++i) rest += f(double(x[i]));
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])).sum() + rest;
}

// Runs of at most kRun elements, one after the other: fewer roundings than one long chain.
template <class T, class F>
double sum_runs(const T* x, i64 n, F f) {
  constexpr i64 kRun = 1 << 14;
  double sum = 0;
  for (i64 k = 0; k < n; k += kRun) sum += sum_range(x + k, std::min(kRun, n - k), f);
  return sum;
}

}  // namespace

void sum(Context&, Tensor out, Tensor x) {
  check_shape(out, 1, 1, DType::f64);
  if (x.dense() && x.size() > 0) x = x.flat();
  constexpr i64 kParts = 64, kSmallest = 1 << 14;
  std::array<double, kParts> parts{};
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> in(x);
    // A part is a run of elements of the tensor read row by row.
    const i64 part = std::max(kSmallest, (x.size() + kParts - 1) / kParts);
    parallel_blocks(x.size(), part, [&](i64 begin, i64 end) {
      double total = 0;
      for (i64 at = begin; at < end;) {
        const i64 r = at / x.cols, j = at % x.cols, n = std::min(end - at, x.cols - j);
        total += sum_runs(in[r] + j, n, Identity{});
        at += n;
      }
      parts[static_cast<std::size_t>(begin / part)] = total;
    });
  });
  for (std::size_t half = kParts / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  *out.row<double>() = parts[0];
}

void sum_squares(Context&, Tensor out, Tensor x) {
  XL_CHECK(x.rows == 1, "one row is expected, got {}", x.rows);
  check_shape(out, sum_blocks(x.cols), 1, DType::f64);
  with_float_type(x.dtype, [&]<class T>() {
    const T* const in = x.row<T>();
    const RowsOf<double> to(out);
    parallel_blocks(x.cols, kSumBlock, [&](i64 begin, i64 end) {
      to[begin / kSumBlock][0] = sum_runs(in + begin, end - begin, Square{});
    });
  });
}

}  // namespace xlstm::XL_CPU
