// Cross entropy behind a soft cap, and its gradient in place. A row of logits stays in the second-level cache.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"
#include "kernels/thread_scratch.h"

namespace xlstm::XL_CPU {

namespace {

void check_cross_entropy(const Tensor& loss, const Tensor& logits, const Tensor& targets, double cap) {
  check_shape(loss, logits.rows, 1, stat_type(logits.dtype));
  check_shape(targets, logits.rows, 1, DType::i32);
  XL_CHECK(cap > 0 && logits.cols > 0, "cap {} and {} classes", cap, logits.cols);
  const RowsOf<std::int32_t> target(targets);
  for (i64 r = 0; r < targets.rows; ++r)
    XL_CHECK(target[r][0] >= -1 && target[r][0] < logits.cols, "target {} in row {}, but there are {} classes",
             target[r][0], r, logits.cols);
}

template <class T>
T max_of(const T* z, i64 n) {
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  Vec<T> top(kLowest);
  for_lanes<T>(n, [&](i64 j, i64 w) {
    top = max(top, w == Vec<T>::kWidth ? Vec<T>::load(z + j) : Vec<T>::load(z + j, w, kLowest));
  });
  return top.max();
}

// Sum over a row of e^(c - top), and each(j, w, e, t) with t = tanh(z / cap). Blocks of 64 vectors are summed first.
template <class T, class F>
T sum_exp(const T* z, i64 n, T cap, T top, F&& each) {
  constexpr i64 kBlock = 64 * Vec<T>::kWidth;
  const Vec<T> inverse(1 / cap), c(cap), shift(top);
  Vec<T> total(T(0));
  for (i64 begin = 0; begin < n; begin += kBlock) {
    Vec<T> block(T(0));
    for_lanes<T>(std::min(kBlock, n - begin), [&](i64 j, i64 w) {
      const Vec<T> t = tanh(load(z + begin + j, w) * inverse);
      Vec<T> e = exp(c * t - shift);
      if (w < Vec<T>::kWidth) e = first_lanes(e, w);  // no terms beyond the row
      block += e;
      each(begin + j, w, e, t);
    });
    total += block;
  }
  return total.sum();
}

}  // namespace

void cross_entropy(Context&, Tensor loss, Tensor dz, Tensor logits, Tensor targets, Tensor scale, double cap) {
  check_cross_entropy(loss, logits, targets, cap);
  check_shape(dz, logits.rows, logits.cols, dz.dtype);
  XL_CHECK(stat_type(dz.dtype) == logits.dtype, "a gradient in {} of logits in {}", name_of(dz.dtype),
           name_of(logits.dtype));
  check_shape(scale, 1, 1, DType::f64);
  const i64 V = logits.cols;
  with_element_type(dz.dtype, [&]<class E, class T>() {
    const RowsOf<T> out(loss), row(logits);
    const RowsOf<E> gradient(dz);
    const RowsOf<std::int32_t> target(targets);
    const T c = T(cap), s = T(*scale.row<double>());
    const Vec<T> one(T(1));
    for_rows(logits.rows, V, [&](i64 r) {
      const T* const z = row[r];
      E* const d = gradient[r];
      const i64 hit = target[r][0];
      if (hit < 0) {
        out[r][0] = 0;
        std::fill_n(d, V, E{});
        return;
      }
      const T hit_tanh = std::tanh(z[hit] / c), top = c * std::tanh(max_of(z, V) / c);
      // First e (1 - t^2), unrounded; what is left is to divide by the sum, which is known only then.
      T* slopes;
      if constexpr (std::is_same_v<E, T>)
        slopes = d;
      else
        slopes = thread_scratch_of<T>(V);
      const T sum =
          sum_exp(z, V, c, top, [&](i64 j, i64 w, Vec<T> e, Vec<T> t) { store(slopes + j, e * (one - t * t), w); });
      out[r][0] = std::log(sum) + top - c * hit_tanh;
      const Vec<T> factor(s / sum);
      const T at_hit = slopes[hit] * factor.v[0] - s * (1 - hit_tanh * hit_tanh);
      for_lanes<T>(V, [&](i64 j, i64 w) { store(d + j, load(slopes + j, w) * factor, w); });
      d[hit] = to_element<E>(at_hit);
    });
  });
}

void cross_entropy_forward(Context&, Tensor loss, Tensor logits, Tensor targets, double cap) {
  check_cross_entropy(loss, logits, targets, cap);
  const i64 V = logits.cols;
  with_float_type(logits.dtype, [&]<class T>() {
    const RowsOf<T> out(loss), row(logits);
    const RowsOf<std::int32_t> target(targets);
    const T c = T(cap);
    for_rows(logits.rows, V, [&](i64 r) {
      const i64 hit = target[r][0];
      const T top = c * std::tanh(max_of(row[r], V) / c);
      const T sum = sum_exp(row[r], V, c, top, [](i64, i64, Vec<T>, Vec<T>) {});
      out[r][0] = hit < 0 ? T(0) : std::log(sum) + top - c * std::tanh(row[r][hit] / c);
    });
  });
}

}  // namespace xlstm::XL_CPU
