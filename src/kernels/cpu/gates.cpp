// Logarithms of the input and forget gates. Two numbers per token and head: scalar code is fast enough.
#include "kernels/cpu/rows.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

template <class T>
T log_sigmoid(T x) {
  return std::min(x, T(0)) - std::log1p(std::exp(-std::abs(x)));
}

// d log sigmoid(x) / dx = sigmoid(-x)
template <class T>
T log_sigmoid_slope(T x) {
  return 1 / (1 + std::exp(x));
}

void check_gates(const Gates& log, const Tensor& pre, const Tensor& bias, const Tensor& starts) {
  XL_CHECK(pre.cols % 2 == 0, "a row holds input and forget gates, but has {} columns", pre.cols);
  for (const Tensor& t : {log.i, log.f}) check_shape(t, pre.rows, pre.cols / 2, stat_type(pre.dtype));
  check_shape(bias, 1, pre.cols, pre.dtype);
  check_shape(starts, pre.rows, 1, DType::i32);
}

}  // namespace

void gates_forward(Context&, Gates log, Tensor pre, Tensor bias, Tensor starts, InputGate gate, double cap) {
  check_gates(log, pre, bias, starts);
  const i64 H = pre.cols / 2;
  with_float_type(pre.dtype, [&]<class T>() {
    const RowsOf<T> log_i(log.i), log_f(log.f), in(pre);
    const RowsOf<std::int32_t> start(starts);
    const T* const b = bias.row<T>();
    const T c = T(cap);
    for_rows(pre.rows, 2 * H, [&](i64 r) {
      for (i64 h = 0; h < H; ++h) {
        const T i = c * std::tanh((in[r][h] + b[h]) / c), f = c * std::tanh((in[r][H + h] + b[H + h]) / c);
        log_i[r][h] = gate == InputGate::exp ? i : log_sigmoid(i);
        log_f[r][h] = start[r][0] != 0 ? -std::numeric_limits<T>::infinity() : log_sigmoid(f);
      }
    });
  });
}

void gates_backward(Context&, Tensor dpre, Tensor dbias, Gates dlog, Tensor pre, Tensor bias, Tensor starts,
                    InputGate gate, double cap) {
  check_gates(dlog, pre, bias, starts);
  check_shape(dpre, pre.rows, pre.cols, pre.dtype);
  check_shape(dbias, 1, pre.cols, pre.dtype);
  const i64 H = pre.cols / 2;
  with_float_type(pre.dtype, [&]<class T>() {
    const RowsOf<T> din(dpre), dlog_i(dlog.i), dlog_f(dlog.f), in(pre);
    const RowsOf<std::int32_t> start(starts);
    const T* const b = bias.row<T>();
    const T c = T(cap);
    const auto row = [&](i64 r, T* sums) {
      for (i64 h = 0; h < H; ++h) {
        const T i = std::tanh((in[r][h] + b[h]) / c), f = std::tanh((in[r][H + h] + b[H + h]) / c);
        const T slope_i = gate == InputGate::exp ? T(1) : log_sigmoid_slope(c * i);
        din[r][h] = dlog_i[r][h] * slope_i * (1 - i * i);
        din[r][H + h] = start[r][0] != 0 ? T(0) : dlog_f[r][h] * log_sigmoid_slope(c * f) * (1 - f * f);
        sums[h] += din[r][h];
        sums[H + h] += din[r][H + h];
      }
    };
    sum_over_rows<T>(
        pre.rows, 2 * H,
        [&](i64 begin, i64 end, T* sums) {
          for (i64 r = begin; r < end; ++r) row(r, sums);
        },
        [&](i64 j, i64 n, Vec<T> total) { add_to(dbias.row<T>() + j, total, n); });
  });
}

void gate_extremes(Context&, Tensor extremes, Tensor pre, Tensor bias) {
  check_shape(extremes, 2, pre.cols, pre.dtype);
  check_shape(bias, 1, pre.cols, pre.dtype);
  with_float_type(pre.dtype, [&]<class T>() {
    const RowsOf<T> in(pre), out(extremes);
    const T* const b = bias.row<T>();
    for (i64 r = 0; r < pre.rows; ++r)
      for (i64 j = 0; j < pre.cols; ++j) {
        const T x = in[r][j] + b[j];
        out[0][j] = std::max(out[0][j], x);
        out[1][j] = std::min(out[1][j], x);
      }
  });
}

}  // namespace xlstm::XL_CPU
