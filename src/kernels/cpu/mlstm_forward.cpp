// mlstm_forward: one task walks the chunks of one (sequence, head, block of v's columns) with the state in its slice of
// the workspace (spec §3.3, §3.4).
#include "kernels/cpu/mlstm_chunk.h"

namespace xlstm::XL_CPU {

namespace {

template <class Products>
struct ForwardTask {
  using E = typename Products::Element;
  using T = typename Products::T;
  using Operand = typename Products::Operand;
  ForwardTask(Tensor h_, CellStats stats_, CellState last_, CellInputs in_, CellState first_, CellShape shape_,
              const CellDims& dims_, const MlstmWorkspace& ws_, T* memory)
      : h(h_),
        stats(stats_),
        last(last_),
        first(first_),
        in(in_),
        shape(shape_),
        dims(dims_),
        ws(ws_),
        products(ws_, memory),
        gates(memory + ws_.gate_vectors, ws_.L),
        q(products.operand(ws_.q)),
        k(products.operand(ws_.k)),
        v(products.operand(ws_.v)),
        scaled_k(products.operand(ws_.scaled)),
        weights_in(products.operand(ws_.weights_in)),
        c_in(products.operand(ws_.c_in)),
        weights{memory + ws_.weights, ws_.L},
        c{memory + ws_.c, ws_.V},
        n(memory + ws_.n) {}

  void run(i64 task, i64 v_begin_, i64 v_end) {
    sequence = task / shape.heads;
    head = task % shape.heads;
    v_begin = v_begin_;
    v_cols = v_end - v_begin_;
    load_state(task);
    const i64 chunk = std::min(shape.chunk, dims.tokens);
    for (i64 t = 0; t < dims.tokens; t += chunk) advance(t, std::min(chunk, dims.tokens - t));
    if (!last.absent()) store_state(task);
  }

 private:
  void load_state(i64 task) {
    fresh = first.absent();
    std::memset(c.data, 0, static_cast<std::size_t>(ws.K * ws.V) * sizeof(T));
    std::memset(n, 0, static_cast<std::size_t>(ws.K) * sizeof(T));
    m = shape.normalize ? kMinusInf<T> : T(0);
    if (fresh) return;
    pack(c, rows_of<T>(first.c, task * dims.qk_dim, v_begin), dims.qk_dim, v_cols);
    if (!shape.normalize) return;
    pack(Rows<T>{n, ws.K}, rows_of<T>(first.n, task, 0), 1, dims.qk_dim);
    m = *first.m.row<T>(task);
  }

  void store_state(i64 task) const {
    for (i64 r = 0; r < dims.qk_dim; ++r)
      std::memcpy(rows_of<T>(last.c, task * dims.qk_dim + r, v_begin).data, c[r], v_cols * sizeof(T));
    if (!shape.normalize || v_begin > 0) return;
    std::memcpy(last.n.row<T>(task), n, dims.qk_dim * sizeof(T));
    *last.m.row<T>(task) = m;
  }

  // rows tokens from token t of the sequence on
  void advance(i64 t, i64 rows) {
    const i64 r0 = sequence * dims.tokens + t, width = dims.qk_dim;
    q_rows = rows_of<E>(in.q, r0, head * width), k_rows = rows_of<E>(in.k, r0, head * width);
    compute_gates<T>(gates, rows_of<T>(in.log.i, r0, head), rows_of<T>(in.log.f, r0, head), rows, m, fresh,
                     shape.normalize);
    fresh = false;
    products.load(q, {q_rows, rows, width});
    products.load(k, {k_rows, rows, width});
    products.load(scaled_k, {k_rows, rows, width, gates.carry});
    products.load(v, {rows_of<E>(in.v, r0, head * dims.v_dim + v_begin), rows, v_cols});
    compute_weights(r0);
    compute_h(rows_of<E>(h, r0, head * dims.v_dim + v_begin));
    update_state();
  }

  // weights = K^-1/2 (q k^T) o D / (N + eps), gates.factor = K^-1/2 inter / (N + eps): with them h is two products.
  void compute_weights(i64 r0) {
    products.lower(weights, q, k, gates.rows, dims.qk_dim);
    const T scale = T(1 / std::sqrt(double(dims.qk_dim)));
    const i64 width = mlstm_pad(gates.rows);
    for (i64 i = 0; i < gates.rows; ++i) {
      T* row = weights[i];
      Vec<T> sum{T(0)};
      for_decays(gates, i, width, [&](i64 j, Vec<T> decay, auto&& keep) {
        const Vec<T> weight = keep(Vec<T>::load(row + j) * Vec<T>(scale) * decay);
        weight.store(row + j);
        sum += weight;
      });
      gates.factor[i] = scale * gates.inter[i];
      if (!shape.normalize) continue;
      const T denominator = normalizer(i, sum.sum());
      const T inverse = 1 / (denominator + T(shape.eps));
      gates.factor[i] *= inverse;
      for (i64 j = 0; j < width; j += Vec<T>::kWidth) (Vec<T>::load(row + j) * Vec<T>(inverse)).store(row + j);
      if (v_begin > 0) continue;
      stats.denominator.row<T>(r0 + i)[head] = denominator;
      stats.max.row<T>(r0 + i)[head] = gates.max[i];
    }
  }

  // N_i = max(|n_i . q_i|, e^-M_i), with n_i . q_i of this chunk given
  T normalizer(i64 i, T within_chunk) const {
    const T from_state = i < gates.head ? gates.factor[i] * dot(q_rows[i], n, dims.qk_dim) : T(0);
    return std::max(std::abs(from_state + within_chunk), exp(Vec<T>(-gates.max[i])).v[0]);
  }

  void compute_h(Rows<E> out) {
    if (gates.head > 0) products.take(c_in, c, dims.qk_dim, v_cols);
    products.take(weights_in, weights, gates.rows, gates.rows);
    products.add_up(out, gates.rows, v_cols, {q, c_in, dims.qk_dim, gates.factor, 0, gates.head},
                    {weights_in, v, gates.start});
  }

  void update_state() {
    products.accumulate(c, c, gates.decay, scaled_k, v, dims.qk_dim, v_cols, gates.tail, gates.rows);
    if (!shape.normalize) return;
    for_lanes<T>(dims.qk_dim, [&](i64 d, i64 lanes) {
      Vec<T> sum = load(n + d, lanes) * Vec<T>(gates.decay);
      for (i64 j = gates.tail; j < gates.rows; ++j) sum += load(k_rows[j] + d, lanes) * Vec<T>(gates.carry[j]);
      store(n + d, sum, lanes);
    });
    m = gates.m_next;
  }

  Tensor h;
  CellStats stats;
  CellState last, first;
  CellInputs in;
  CellShape shape;
  const CellDims& dims;
  const MlstmWorkspace& ws;
  Products products;
  ChunkGates<T> gates;
  Operand q, k, v, scaled_k, weights_in, c_in;
  Rows<T> weights, c;
  Rows<E> q_rows, k_rows;  // of this chunk, in memory
  T *n, m = 0;
  bool fresh = false;  // no state yet
  i64 sequence = 0, head = 0, v_begin = 0, v_cols = 0;
};

}  // namespace

void mlstm_forward(Context& ctx, Tensor h, CellStats stats, CellState last, CellInputs in, CellState first,
                   CellShape shape, Tensor workspace) {
  const CellDims dims = cell_dims(in, shape);
  XL_CHECK(h.rows == in.v.rows && h.cols == in.v.cols, "h is ({}, {}), v is ({}, {})", h.rows, h.cols, in.v.rows,
           in.v.cols);
  if (!last.absent()) check_cell_state(last, dims, shape, shape.normalize);
  if (!first.absent()) check_cell_state(first, dims, shape, shape.normalize);
  if (ctx.profile)
    ctx.profile->add_flops(ctx.op_class, mlstm_forward_flops(shape, dims.tokens, dims.qk_dim, dims.v_dim));
  const i64 block = mlstm_value_block(shape, dims.v_dim), blocks = (dims.v_dim + block - 1) / block;
  with_products(ctx, h.dtype, [&]<class Products>() {
    const MlstmWorkspace ws(shape, dims.tokens, dims.qk_dim, dims.v_dim, false, Products::kTiles);
    check_workspace(workspace, ws.total);
    parallel_for(shape.sequences * shape.heads * blocks, [&](i64 task) {
      auto* const memory = workspace.row<typename Products::T>() + thread_index() * ws.total;
      const i64 v_begin = task % blocks * block;
      ForwardTask<Products>(h, stats, last, in, first, shape, dims, ws, memory)
          .run(task / blocks, v_begin, std::min(v_begin + block, dims.v_dim));
    });
  });
}

}  // namespace xlstm::XL_CPU
