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

// The backward pass of one norm, and of the products with gates behind it if there are gates.
template <class E, class T = ArithmeticOf<E>>
struct Backward {
  static constexpr i64 kRows = 8;  // that share what is read of the gates' weights, and written of their gradient
  RowsOf<E> dx, dy, stream, x;
  RowsOf<T> rstd, dpre, gates;
  const T* weight;
  bool residual;
  i64 rows, cols, gate_count = 0;

  template <i64 kCount>
  using Rows = std::array<Vec<T>, static_cast<std::size_t>(kCount)>;

  // The gradient of y: dy + dpre gates, columns j, j + 1, ... of kCount rows from `begin` on
  template <i64 kCount>
  Rows<kCount> upstream(i64 begin, i64 j, i64 n) const {
    Rows<kCount> d;
    for (std::size_t r = 0; r < kCount; ++r) d[r] = load(dy[begin + i64(r)] + j, n);
    for (i64 g = 0; g < gate_count; ++g) {
      const Vec<T> column = load(gates[g] + j, n);
      for (std::size_t r = 0; r < kCount; ++r) d[r] += Vec<T>(dpre[begin + i64(r)][g]) * column;
    }
    return d;
  }

  // dx = dresidual + rstd (w dy - x rstd^2 mean(w dy x)) of kCount rows from `begin` on; what they give to dw, and
  // behind it to each gate, is added to the sums. Elements are read before dx is written, which may lie where dy does.
  // (`b` is a copy, which no store can change: the loops need not read it again.)
  template <i64 kCount>
  static void block(const Backward b, i64 begin, T* sums) {
    Rows<kCount> along, normed, scale;
    along.fill(Vec<T>(T(0)));
    for_lanes<T>(b.cols, [&](i64 j, i64 n) {
      const Rows<kCount> d = b.template upstream<kCount>(begin, j, n);
      const Vec<T> w = load(b.weight + j, n);
      for (std::size_t r = 0; r < kCount; ++r) along[r] += d[r] * w * load(b.x[begin + i64(r)] + j, n);
    });
    const T* dpre_of[kCount];
    for (std::size_t r = 0; r < kCount; ++r) {
      const T s = b.rstd[begin + i64(r)][0];
      along[r] = Vec<T>(s * s * s * along[r].sum() / T(b.cols));
      scale[r] = Vec<T>(s);
      dpre_of[r] = b.dpre[begin + i64(r)];
    }
    for_lanes<T>(b.cols, [&](i64 j, i64 n) {
      const Rows<kCount> d = b.template upstream<kCount>(begin, j, n);
      const Vec<T> w = load(b.weight + j, n);
      Vec<T> dw(T(0));
      for (std::size_t r = 0; r < kCount; ++r) {
        const i64 row = begin + i64(r);
        const Vec<T> in = load(b.x[row] + j, n);
        normed[r] = in * scale[r];
        dw += d[r] * normed[r];
        const Vec<T> out = d[r] * w * scale[r] - in * along[r];
        store(b.dx[row] + j, b.residual ? out + load(b.stream[row] + j, n) : out, n);
      }
      add_to(sums + j, dw, n);
      for (i64 g = 0; g < b.gate_count; ++g) {
        Vec<T> even(T(0)), odd(T(0));
        for (std::size_t r = 0; r < kCount; ++r) (r % 2 == 0 ? even : odd) += Vec<T>(dpre_of[r][g]) * normed[r];
        add_to(sums + (1 + g) * b.cols + j, (even + odd) * w, n);
      }
    });
  }

  void run(const RowsOf<T>& dw, const RowsOf<T>& dgates) const {
    sum_over_rows<T>(
        rows, (1 + gate_count) * cols,
        [&](i64 begin, i64 end, T* sums) {
          i64 r = begin;
          for (; r + kRows <= end; r += kRows) block<kRows>(*this, r, sums);
          for (; r < end; ++r) block<1>(*this, r, sums);
        },
        [&](i64 j, i64 n, Vec<T> total) { add_columns(dw, dgates, j, n, total); });
  }

 private:
  // Columns of the sums are those of dw, then of each gate; a vector of them may begin in one and end in the next.
  void add_columns(const RowsOf<T>& dw, const RowsOf<T>& dgates, i64 j, i64 n, Vec<T> total) const {
    i64 row = j / cols, col = j % cols;
    const auto at = [&] { return (row == 0 ? dw[0] : dgates[row - 1]) + col; };
    if (col + n <= cols) return add_to(at(), total, n);
    for (i64 lane = 0; lane < n; ++lane) {
      *at() += total.v[lane];
      if (++col == cols) ++row, col = 0;
    }
  }
};

template <class E>
Backward<E> backward_of(Tensor dx, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd) {
  using T = ArithmeticOf<E>;
  const bool residual = dresidual.rows > 0;
  return {.dx = RowsOf<E>(dx),
          .dy = RowsOf<E>(dy),
          .stream = RowsOf<E>(residual ? dresidual : dy),
          .x = RowsOf<E>(x),
          .rstd = RowsOf<T>(rstd),
          .dpre = RowsOf<T>(rstd),  // no gates: not read
          .gates = RowsOf<T>(w),
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

void rmsnorm_backward(Context&, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd) {
  check_backward(dx, dw, dy, dresidual, x, w, rstd);
  with_element_type(x.dtype, [&]<class E, class T>() {
    backward_of<E>(dx, dy, dresidual, x, w, rstd).run(RowsOf<T>(dw), RowsOf<T>(dw));
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
    auto norm = backward_of<E>(dx, dy, dresidual, x, w, rstd);
    norm.dpre = RowsOf<T>(dpre), norm.gates = RowsOf<T>(gates), norm.gate_count = gates.rows;
    norm.run(RowsOf<T>(dw), RowsOf<T>(dgates));
  });
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 4.0 * double(x.rows) * double(x.cols) * double(gates.rows));
}

}  // namespace xlstm::XL_CPU
