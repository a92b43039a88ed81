// mlstm_step: the recurrent form (spec §2). One task advances the state of one (sequence, head) token by token.
#include "core/parallel.h"
#include "kernels/cpu/vec.h"
#include "kernels/ops.h"

namespace xlstm::XL_CPU {

namespace {

// f' and i' (spec §2.1), and the new m. Without a normaliser m stays 0.
template <class T>
struct StepGates {
  T decay, input, m;
  StepGates(T log_i, T log_f, T m_before, bool normalize) {
    m = normalize ? std::max(log_f + m_before, log_i) : T(0);
    const T shift = std::isinf(m) ? T(0) : m;
    decay = exp(Vec<T>(log_f + (normalize ? m_before : T(0)) - shift)).v[0];
    input = exp(Vec<T>(log_i - shift)).v[0];
  }
};

// c = decay c + input k v^T, then h = scale q^T c: one pass over the state
template <class E, class T>
void advance_memory(E* h, const Tensor& c, i64 c_row, const E* q, const E* k, const E* v, const CellDims& dims,
                    const StepGates<T>& gates, T scale) {
  for_lanes<T>(dims.v_dim, [&](i64 j, i64 w) {
    const Vec<T> value = load(v + j, w) * Vec<T>(gates.input), decay(gates.decay);
    Vec<T> sum{T(0)};
    for (i64 d = 0; d < dims.qk_dim; ++d) {
      T* row = c.row<T>(c_row + d) + j;
      const Vec<T> next = decay * load(row, w) + Vec<T>(to_arithmetic(k[d])) * value;
      store(row, next, w);
      sum += Vec<T>(to_arithmetic(q[d])) * next;
    }
    store(h + j, sum * Vec<T>(scale), w);
  });
}

// n = decay n + input k; returns q . n
template <class E, class T>
T advance_normalizer(T* n, const E* q, const E* k, i64 dim, const StepGates<T>& gates) {
  Vec<T> sum{T(0)};
  for_lanes<T>(dim, [&](i64 j, i64 w) {
    const Vec<T> next = Vec<T>(gates.decay) * load(n + j, w) + Vec<T>(gates.input) * load(k + j, w);
    store(n + j, next, w);
    sum += load(q + j, w) * next;
  });
  return sum.sum();
}

template <class E, class T>
void step_head(Tensor h, CellState state, CellInputs in, const CellShape& shape, const CellDims& dims, i64 task) {
  const i64 sequence = task / shape.heads, head = task % shape.heads;
  const T scale = T(1 / std::sqrt(double(dims.qk_dim)));
  for (i64 r = sequence * dims.tokens; r < (sequence + 1) * dims.tokens; ++r) {
    const E *q = in.q.row<E>(r) + head * dims.qk_dim, *k = in.k.row<E>(r) + head * dims.qk_dim;
    const E* v = in.v.row<E>(r) + head * dims.v_dim;
    const T before = shape.normalize ? *state.m.row<T>(task) : T(0);
    const StepGates<T> gates(in.log.i.row<T>(r)[head], in.log.f.row<T>(r)[head], before, shape.normalize);
    T factor = scale;
    if (shape.normalize) {
      const T qn = scale * advance_normalizer(state.n.row<T>(task), q, k, dims.qk_dim, gates);
      factor /= std::max(std::abs(qn), exp(Vec<T>(-gates.m)).v[0]) + T(shape.eps);
      *state.m.row<T>(task) = gates.m;
    }
    advance_memory(h.row<E>(r) + head * dims.v_dim, state.c, task * dims.qk_dim, q, k, v, dims, gates, factor);
  }
}

}  // namespace

void mlstm_step(Context&, Tensor h, CellState state, CellInputs in, CellShape shape) {
  const CellDims dims = cell_dims(in, shape);
  XL_CHECK(h.rows == in.v.rows && h.cols == in.v.cols, "h is ({}, {}), v is ({}, {})", h.rows, h.cols, in.v.rows,
           in.v.cols);
  check_cell_state(state, dims, shape, shape.normalize);
  with_element_type(h.dtype, [&]<class E, class T>() {
    parallel_for(shape.sequences * shape.heads, [&](i64 task) { step_head<E, T>(h, state, in, shape, dims, task); });
  });
}

}  // namespace xlstm::XL_CPU
