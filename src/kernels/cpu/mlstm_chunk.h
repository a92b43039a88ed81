#pragma once
// What the forward and the backward pass of the chunkwise mLSTM share: the gates of a chunk, and the matrix of its
// decays. Notation of spec §3: b, a, g, m, M.
#include "core/parallel.h"
#include "kernels/cpu/mlstm_vectors.h"
#if defined(__AVX512F__)
#include "kernels/cpu/mlstm_tiles.h"
#endif
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

template <class E>
Rows<E> rows_of(const Tensor& t, i64 row, i64 col) {
  return {t.row<E>(row) + col, t.row_stride};
}

template <class T>
constexpr T kMinusInf = -std::numeric_limits<T>::infinity();

// The gates of up to L tokens, which resets (log f = -inf) cut into segments. Vectors have one element per row.
template <class T>
struct ChunkGates {
  T* row_exponent;  // D_ij = exp(row_exponent_i + column_exponent_j), j <= i in the same segment
  T* column_exponent;
  T* inter;   // exp(b_i + m - M_i): what is left of the incoming state; 0 from the first reset on
  T* carry;   // exp(a_j - m_next): how much of k v^T reaches the outgoing state; 0 before the last reset
  T* start;   // first row of the segment
  T* max;     // M
  T* factor;  // for the kernels: a scale per row
  i64 rows = 0;
  i64 head = 0;  // rows before the first reset: only these see the incoming state
  i64 tail = 0;  // first row of the last segment: only rows from here on reach the outgoing state
  T decay = 0;   // exp(g + m - m_next): how much of the incoming state reaches the outgoing one
  T m_next = 0;

  ChunkGates(T* memory, i64 length)
      : row_exponent(memory),
        column_exponent(memory + length),
        inter(memory + 2 * length),
        carry(memory + 3 * length),
        start(memory + 4 * length),
        max(memory + 5 * length),
        factor(memory + 6 * length) {}
};

// m: maximum of the incoming state. fresh: there is no incoming state, which is the same as a reset at the first row.
// saved_max: M of the forward pass; without it, M is computed. Without a normaliser all maxima are 0. Sums of log f
// are kept in double, so that only the exponents themselves are rounded to T.
template <class T>
void compute_gates(ChunkGates<T>& g, Rows<const T> log_i, Rows<const T> log_f, i64 rows, T m, bool fresh,
                   bool normalize, Rows<const T> saved_max = {}) {
  g.rows = g.head = rows;
  g.tail = 0;
  double b = 0, running = kMinusInf<double>;
  for (i64 i = 0; i < rows; ++i) {
    const T li = *log_i[i], lf = *log_f[i];
    if (lf == kMinusInf<T> || (fresh && i == 0)) {
      if (g.head == rows) g.head = i;
      g.tail = i;
      b = 0;
      running = kMinusInf<double>;
    } else {
      b += lf;
    }
    const double incoming = i < g.head ? b + m : kMinusInf<double>;
    running = std::max(running, li - b);
    T max = 0;
    if (normalize) max = saved_max.data ? *saved_max[i] : T(std::max(incoming, b + running));
    const double shift = max == kMinusInf<T> ? 0 : max;  // nothing was ever written: every term is 0 as it is
    g.max[i] = max;
    g.start[i] = T(g.tail);
    g.row_exponent[i] = T(b - shift);
    g.column_exponent[i] = T(li - b);
    g.inter[i] = T(incoming - shift);
    g.carry[i] = kMinusInf<T>;
  }
  double outgoing = kMinusInf<double>, after = 0;  // after: sum of log f behind this row
  for (i64 j = rows - 1; j >= g.tail; --j) {
    g.carry[j] = T(after + *log_i[j]);
    outgoing = std::max(outgoing, after + *log_i[j]);
    after += *log_f[j];
  }
  const double decay = g.head == rows ? b + m : kMinusInf<double>;
  g.m_next = normalize ? T(std::max(outgoing, decay)) : T(0);
  const T shift = g.m_next == kMinusInf<T> ? T(0) : g.m_next;
  g.decay = exp(Vec<T>(T(decay - shift))).v[0];
  for_lanes<T>(rows, [&](i64 i, i64 w) {
    store(g.inter + i, exp(load(g.inter + i, w)), w);
    store(g.carry + i, exp(load(g.carry + i, w) - Vec<T>(shift)), w);
  });
}

// body(j, decay, keep) over row i in vectors of columns j, j + 1, ..: decay is D_ij where it means something, and
// keep(x) is x there and 0 elsewhere, that is outside the segment and above the diagonal, whatever x holds (even NaN).
template <class T, class F>
void for_decays(const ChunkGates<T>& g, i64 i, i64 padded_rows, F&& body) {
  using V = typename Vec<T>::V;
  V lane;
  for (i64 l = 0; l < Vec<T>::kWidth; ++l) lane[l] = T(l);
  const V exponent = V{} + g.row_exponent[i];
  const i64 first = static_cast<i64>(g.start[i]) / Vec<T>::kWidth * Vec<T>::kWidth;
  for (i64 j = 0; j < padded_rows; j += Vec<T>::kWidth) {
    const bool outside = j < first || j > i;
    const V column = lane + T(j);
    const auto inside = (column >= V{} + g.start[i]) & (column <= V{} + T(i));
    const Vec<T> decay = outside ? Vec<T>(T(0)) : exp(Vec<T>(exponent + Vec<T>::load(g.column_exponent + j).v));
    body(j, decay, [&](Vec<T> x) { return outside ? Vec<T>(T(0)) : Vec<T>(inside ? x.v : V{}); });
  }
}

template <class T, class E>
T dot(const E* a, const T* b, i64 n) {
  Vec<T> sum{T(0)};
  for_lanes<T>(n, [&](i64 j, i64 w) { sum += load(a + j, w) * load(b + j, w); });
  return sum.sum();
}

// f.template operator()<Products>(), for activations of `type`
template <class F>
void with_products([[maybe_unused]] const Context& ctx, DType type, F&& f) {
#if defined(__AVX512F__)
  if (ctx.isa == CpuIsa::amx && type == DType::bf16) return f.template operator()<TileProducts>();
#endif
  with_element_type(type, [&]<class E, class T>() { f.template operator()<VectorProducts<E>>(); });
}

inline void check_workspace(const Tensor& workspace, i64 elements_per_thread) {
  const i64 need = elements_per_thread * max_threads();
  XL_CHECK(workspace.size() >= need && workspace.dense(),
           "the cell's workspace holds {} elements; {} threads need {} (set the number of threads before planning)",
           workspace.size(), max_threads(), need);
}

}  // namespace xlstm::XL_CPU
