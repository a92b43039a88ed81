// RMSNorm over the columns of each row, and the pre-activations of gates behind it.
#include <array>

#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

template <class E, class T = ArithmeticOf<E>>
T reciprocal_rms(const E* x, i64 D, T eps) {
  Vec<T> squares(T(0));
  for_lanes<T>(D, [&](i64 j, i64 n) {
    const Vec<T> v = load(x + j, n);
    squares += v * v;
  });
  return 1 / std::sqrt(squares.sum() / T(D) + eps);
}

// What the backward pass of one norm needs. upstream(r, j, n): the gradient of y, columns j, j + 1, ... of row r.
template <class E, class T = ArithmeticOf<E>>
struct Backward {
  RowsOf<E> dx, stream, x;
  RowsOf<T> rstd;
  const T* weight;
  bool residual;
  i64 rows, cols;

  // dx = dresidual + rstd (w dy - x rstd^2 mean(w dy x))
  template <class F>
  void rows_of_dx(F&& upstream) const {
    for_rows(rows, cols, [&](i64 r) {
      const E* const a = x[r];
      Vec<T> dot(T(0));
      for_lanes<T>(cols, [&](i64 j, i64 n) { dot += upstream(r, j, n) * load(weight + j, n) * load(a + j, n); });
      const T scale = rstd[r][0];
      const Vec<T> along(scale * scale * scale * dot.sum() / T(cols));
      for_lanes<T>(cols, [&](i64 j, i64 n) {
        const Vec<T> d = upstream(r, j, n) * load(weight + j, n) * Vec<T>(scale) - load(a + j, n) * along;
        store(dx[r] + j, residual ? d + load(stream[r] + j, n) : d, n);
      });
    });
  }
  // x rstd: y before its weights
  Vec<T> normed(i64 r, i64 j, i64 n) const { return load(x[r] + j, n) * Vec<T>(rstd[r][0]); }
};

template <class E>
Backward<E> backward_of(Tensor dx, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd) {
  using T = ArithmeticOf<E>;
  const bool residual = dresidual.rows > 0;
  return {.dx = RowsOf<E>(dx),
          .stream = RowsOf<E>(residual ? dresidual : dy),
          .x = RowsOf<E>(x),
          .rstd = RowsOf<T>(rstd),
          .weight = w.row<T>(),
          .residual = residual,
          .rows = x.rows,
          .cols = x.cols};
}

void check_backward(const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& dresidual, const Tensor& x,
                    const Tensor& w, const Tensor& rstd) {
  for (const Tensor& t : {dx, dy}) check_shape(t, x.rows, x.cols, x.dtype);
  if (dresidual.rows > 0) check_shape(dresidual, x.rows, x.cols, x.dtype);
  for (const Tensor& t : {dw, w}) check_shape(t, 1, x.cols, stat_type(x.dtype));
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
}

}  // namespace

void rmsnorm_forward(Context&, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  const i64 D = x.cols;
  check_shape(y, x.rows, D, x.dtype);
  check_shape(rstd, x.rows, 1, stat_type(x.dtype));
  check_shape(w, 1, D, stat_type(x.dtype));
  with_element_type(x.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), in(x);
    const RowsOf<T> stat(rstd);
    const T* const weight = w.row<T>();
    for_rows(x.rows, D, [&](i64 r) {
      const E* const a = in[r];
      const T scale = stat[r][0] = reciprocal_rms(a, D, T(eps));
      for_lanes<T>(D,
                   [&](i64 j, i64 n) { store(out[r] + j, load(a + j, n) * Vec<T>(scale) * load(weight + j, n), n); });
    });
  });
}

// dw first: then dx may take the place of dy.
void rmsnorm_backward(Context&, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd) {
  check_backward(dx, dw, dy, dresidual, x, w, rstd);
  with_element_type(x.dtype, [&]<class E, class T>() {
    const RowsOf<E> dout(dy);
    const auto norm = backward_of<E>(dx, dy, dresidual, x, w, rstd);
    const auto upstream = [&](i64 r, i64 j, i64 n) { return load(dout[r] + j, n); };
    add_column_sums<T>(dw, x.rows, [&](i64 r, i64 j, i64 n) { return upstream(r, j, n) * norm.normed(r, j, n); });
    norm.rows_of_dx(upstream);
  });
}

// --- with the gates' pre-activations: products with few columns, so the rows' own pass takes them along

namespace {

constexpr i64 kGateRows = 4;  // rows that share what is read of the gates' weights

// Rows [begin, end), at most kGateRows: y, and pre = (x rstd w) gates^T from y before it is rounded.
template <class E, class T = ArithmeticOf<E>>
void norm_with_gates(const RowsOf<E>& y, const RowsOf<T>& pre, const RowsOf<E>& x, const RowsOf<T>& rstd,
                     const T* weight, const Tensor& gates, i64 begin, i64 end) {
  constexpr i64 kSegment = 512;  // columns that stay in the first-level cache
  const RowsOf<T> gate(gates);
  alignas(64) T normed[kGateRows][kSegment] = {};  // zeros where there is no row
  for (i64 r = begin; r < end; ++r) std::fill_n(pre[r], gates.rows, T(0));
  for (i64 from = 0; from < gates.cols; from += kSegment) {
    const i64 cols = std::min(kSegment, gates.cols - from);
    for (i64 r = begin; r < end; ++r)
      for_lanes<T>(cols, [&](i64 j, i64 n) {
        const Vec<T> v = load(x[r] + from + j, n) * Vec<T>(rstd[r][0]) * load(weight + from + j, n);
        store(normed[r - begin] + j, v, n);
        store(y[r] + from + j, v, n);
      });
    for (i64 g = 0; g < gates.rows; ++g) {
      std::array<Vec<T>, kGateRows> dots;
      dots.fill(Vec<T>(T(0)));
      for_lanes<T>(cols, [&](i64 j, i64 n) {
        const Vec<T> column = load(gate[g] + from + j, n);
        for (i64 r = 0; r < kGateRows; ++r) dots[std::size_t(r)] += load(normed[r] + j, n) * column;
      });
      for (i64 r = begin; r < end; ++r) pre[r][g] += dots[std::size_t(r - begin)].sum();
    }
  }
}

// The gradient that comes through the gates: dpre gates
template <class T>
struct GateGradients {
  RowsOf<T> dpre, gates;
  i64 count;

  Vec<T> operator()(i64 r, i64 j, i64 n) const {
    Vec<T> sum(T(0));
    for (i64 g = 0; g < count; ++g) sum += Vec<T>(dpre[r][g]) * load(gates[g] + j, n);
    return sum;
  }
};

// dw and dgates over all rows, for columns [begin, begin + lanes). A gate's sum over kBlock rows goes to memory at
// once.
template <class E, class T, class F>
void add_parameter_gradients(T* dw, const RowsOf<T>& dgates, const Backward<E>& norm, const GateGradients<T>& through,
                             i64 j, i64 n, F&& upstream) {
  constexpr i64 kBlock = 8;
  const Vec<T> weight = load(norm.weight + j, n);
  Vec<T> total(T(0));
  const auto add_block = [&](i64 begin, auto rows) {
    std::array<Vec<T>, kBlock> normed;
    Vec<T> block(T(0));
    for (i64 r = 0; r < rows; ++r) {
      normed[std::size_t(r)] = norm.normed(begin + r, j, n);
      block += upstream(begin + r, j, n) * normed[std::size_t(r)];
    }
    total += block;
    for (i64 g = 0; g < through.count; ++g) {
      Vec<T> sum(T(0));
      for (i64 r = 0; r < rows; ++r) sum += Vec<T>(through.dpre[begin + r][g]) * normed[std::size_t(r)];
      T* const at = dgates[g] + j;
      store(at, load(at, n) + sum * weight, n);
    }
  };
  i64 r = 0;
  for (; r + kBlock <= norm.rows; r += kBlock) add_block(r, std::integral_constant<i64, kBlock>{});
  if (r < norm.rows) add_block(r, norm.rows - r);
  store(dw + j, load(dw + j, n) + total, n);
}

}  // namespace

void rmsnorm_gates_forward(Context& ctx, Tensor y, Tensor rstd, Tensor pre, Tensor x, Tensor w, Tensor gates,
                           double eps) {
  const DType stat = stat_type(x.dtype);
  check_shape(y, x.rows, x.cols, x.dtype);
  check_shape(rstd, x.rows, 1, stat);
  check_shape(w, 1, x.cols, stat);
  check_shape(gates, gates.rows, x.cols, stat);
  check_shape(pre, x.rows, gates.rows, stat);
  with_element_type(x.dtype, [&]<class E, class T>() {
    const RowsOf<E> out(y), in(x);
    const RowsOf<T> scale(rstd), to(pre);
    parallel_blocks(x.rows, kGateRows, [&](i64 begin, i64 end) {
      for (i64 r = begin; r < end; ++r) scale[r][0] = reciprocal_rms(in[r], x.cols, T(eps));
      norm_with_gates<E>(out, to, in, scale, w.row<T>(), gates, begin, end);
    });
  });
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 2.0 * double(x.rows) * double(x.cols) * double(gates.rows));
}

void rmsnorm_gates_backward(Context& ctx, Tensor dx, Tensor dw, Tensor dgates, Tensor dy, Tensor dresidual, Tensor dpre,
                            Tensor x, Tensor w, Tensor gates, Tensor rstd) {
  const DType stat = stat_type(x.dtype);
  check_backward(dx, dw, dy, dresidual, x, w, rstd);
  for (const Tensor& t : {dgates, gates}) check_shape(t, gates.rows, x.cols, stat);
  check_shape(dpre, x.rows, gates.rows, stat);
  with_element_type(x.dtype, [&]<class E, class T>() {
    const RowsOf<E> dout(dy);
    const auto norm = backward_of<E>(dx, dy, dresidual, x, w, rstd);
    const GateGradients<T> through{RowsOf<T>(dpre), RowsOf<T>(gates), gates.rows};
    const auto upstream = [&](i64 r, i64 j, i64 n) { return load(dout[r] + j, n) + through(r, j, n); };
    const RowsOf<T> gate_sums(dgates);
    constexpr i64 kStripe = 4 * Vec<T>::kWidth;
    parallel_blocks(x.cols, kStripe, [&](i64 begin, i64 end) {
      for_lanes<T>(end - begin, [&](i64 j, i64 n) {
        add_parameter_gradients<E>(dw.row<T>(), gate_sums, norm, through, begin + j, n, upstream);
      });
    });
    norm.rows_of_dx(upstream);
  });
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 4.0 * double(x.rows) * double(x.cols) * double(gates.rows));
}

}  // namespace xlstm::XL_CPU
