// Sums of whole tensors in f64: at most 64 parts, cut by shape alone, added as a binary tree.
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

template <class F>
void reduce(Tensor out, Tensor x, F f) {
  check_shape(out, 1, 1, DType::f64);
  if (x.dense() && x.size() > 0) x = x.flat();
  constexpr i64 kParts = 64, kBlock = 1 << 14;
  std::array<double, kParts> parts{};
  with_float_type(x.dtype, [&]<class T>() {
    const RowsOf<T> in(x);
    // A part is a run of elements of the tensor read row by row.
    const i64 part = std::max(kBlock, (x.size() + kParts - 1) / kParts);
    parallel_blocks(x.size(), part, [&](i64 begin, i64 end) {
      double sum = 0;
      for (i64 at = begin; at < end;) {
        const i64 r = at / x.cols, j = at % x.cols, n = std::min(end - at, x.cols - j);
        for (i64 k = 0; k < n; k += kBlock) sum += sum_range(in[r] + j + k, std::min(kBlock, n - k), f);
        at += n;
      }
      parts[static_cast<std::size_t>(begin / part)] = sum;
    });
  });
  for (std::size_t half = kParts / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  *out.row<double>() = parts[0];
}

}  // namespace

void sum(Context&, Tensor out, Tensor x) { reduce(out, x, Identity{}); }
void sum_squares(Context&, Tensor out, Tensor x) { reduce(out, x, Square{}); }

}  // namespace xlstm::XL_CPU
