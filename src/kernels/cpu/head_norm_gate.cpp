// Per-head LayerNorm or RMSNorm without bias, and the sigmoid output gate.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

void check_head_norm(const Tensor& h, const Tensor& o, const Tensor& w, const Tensor& mean, const Tensor& rstd) {
  check_shape(o, h.rows, h.cols, h.dtype);
  check_shape(w, 1, h.cols, stat_type(h.dtype));
  XL_CHECK(mean.cols > 0 && h.cols % mean.cols == 0, "{} columns do not divide into {} heads", h.cols, mean.cols);
  for (const Tensor& t : {mean, rstd}) check_shape(t, h.rows, mean.cols, stat_type(h.dtype));
}

}  // namespace

void head_norm_gate_forward(Context&, Tensor y, Tensor mean, Tensor rstd, Tensor h, Tensor o, Tensor w, double eps,
                            HeadNorm norm) {
  check_head_norm(h, o, w, mean, rstd);
  check_shape(y, h.rows, h.cols, h.dtype);
  const i64 heads = mean.cols, V = h.cols / heads;
  with_element_type(h.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), in(h), gate(o);
    const RowsOf<T> means(mean), rstds(rstd);
    const T* const weight = w.row<T>();
    const auto head = [&](i64 r, i64 index) {
      const i64 at = index * V;
      const E *const x = in[r] + at, *const g = gate[r] + at;
      const T* const scale = weight + at;
      Vec<T> sum(T(0)), squares(T(0));
      if (norm == HeadNorm::layernorm) for_lanes<T>(V, [&](i64 j, i64 n) { sum += load(x + j, n); });
      const T m = sum.sum() / T(V);
      for_lanes<T>(V, [&](i64 j, i64 n) {
        const Vec<T> d = load(x + j, n) - Vec<T>(m);
        squares += n == Vec<T>::kWidth ? d * d : first_lanes(d * d, n);
      });
      const T s = 1 / std::sqrt(squares.sum() / T(V) + T(eps));
      means[r][index] = m;
      rstds[r][index] = s;
      for_lanes<T>(V, [&](i64 j, i64 n) {
        const Vec<T> normed = (load(x + j, n) - Vec<T>(m)) * Vec<T>(s);
        store(out[r] + at + j, sigmoid(load(g + j, n)) * normed * load(scale + j, n), n);
      });
    };
    for_rows(h.rows, h.cols, [&](i64 r) {
      for (i64 index = 0; index < heads; ++index) head(r, index);
    });
  });
}

// With s = sigmoid(o) and e = dy s w, the gradient of x^:  dh = rstd (e - mean(e) - x^ mean(e x^)), without mean(e)
// where no mean was taken away;  do = dy w x^ s (1 - s).  Elements are read before dh and do are written, which may lie
// where dy and o do.
void head_norm_gate_backward(Context&, Tensor dh, Tensor d_o, Tensor dw, Tensor dy, Tensor h, Tensor o, Tensor w,
                             Tensor mean, Tensor rstd, HeadNorm norm) {
  check_head_norm(h, o, w, mean, rstd);
  for (const Tensor& t : {dh, d_o, dy}) check_shape(t, h.rows, h.cols, h.dtype);
  check_shape(dw, 1, h.cols, stat_type(h.dtype));
  const i64 heads = mean.cols, V = h.cols / heads;
  with_element_type(h.dtype, [&]<class E, class T>() {
    const RowsOf<E> din(dh), dgate(d_o), dout(dy), in(h), gate(o);
    const RowsOf<T> means(mean), rstds(rstd);
    const T* const weight = w.row<T>();
    const auto head = [&](i64 r, i64 index, T* sums) {
      const i64 at = index * V;
      const E *const x = in[r] + at, *const g = gate[r] + at, *const d = dout[r] + at;
      const T* const scale = weight + at;
      const Vec<T> one(T(1)), m(means[r][index]), s(rstds[r][index]);
      Vec<T> sum(T(0)), dot(T(0));
      for_lanes<T>(V, [&](i64 j, i64 n) {
        const Vec<T> e = load(d + j, n) * sigmoid(load(g + j, n)) * load(scale + j, n);
        sum += e;
        dot += e * (load(x + j, n) - m) * s;
      });
      const Vec<T> mean_e(norm == HeadNorm::layernorm ? sum.sum() / T(V) : T(0)), mean_dot(dot.sum() / T(V));
      for_lanes<T>(V, [&](i64 j, i64 n) {
        const Vec<T> normed = (load(x + j, n) - m) * s, open = sigmoid(load(g + j, n));
        const Vec<T> gated = load(d + j, n) * open, e = gated * load(scale + j, n);
        add_to(sums + at + j, gated * normed, n);
        store(din[r] + at + j, s * (e - mean_e - normed * mean_dot), n);
        store(dgate[r] + at + j, e * normed * (one - open), n);
      });
    };
    T* const dweight = dw.row<T>();
    sum_over_rows<T>(
        h.rows, h.cols,
        [&](i64 begin, i64 end, T* sums) {
          for (i64 r = begin; r < end; ++r)
            for (i64 index = 0; index < heads; ++index) head(r, index, sums);
        },
        [&](i64 j, i64 n, Vec<T> total) { add_to(dweight + j, total, n); });
  });
}

}  // namespace xlstm::XL_CPU
