// mlstm_backward: one task per (sequence, head). It recomputes the states before chunks, a group of them at a time, and
// walks the chunks in reverse with the gradient dC of the state (spec §5.2, §5.6). The denominator N and all maxima are
// constants.
#include "kernels/cpu/mlstm_chunk.h"

namespace xlstm::XL_CPU {

namespace {

template <class Products>
struct BackwardTask {
  using E = typename Products::Element;
  using T = typename Products::T;
  using Operand = typename Products::Operand;
  BackwardTask(CellInputs din_, CellState dfirst_, Tensor dh_, CellState dlast_, CellInputs in_, CellStats stats_,
               CellState first_, CellShape shape_, const CellDims& dims_, const MlstmWorkspace& ws_, T* memory)
      : din(din_),
        in(in_),
        dfirst(dfirst_),
        dlast(dlast_),
        first(first_),
        dh_in(dh_),
        stats(stats_),
        shape(shape_),
        dims(dims_),
        ws(ws_),
        products(ws_, memory),
        gates(memory + ws_.gate_vectors, ws_.L),
        q(products.operand(ws_.q)),
        k(products.operand(ws_.k)),
        v(products.operand(ws_.v)),
        scaled(products.operand(ws_.scaled)),
        dh(products.operand(ws_.dh)),
        weights_in(products.operand(ws_.weights_in)),
        dweights_in(products.operand(ws_.dweights_in)),
        c_in(products.operand(ws_.c_in)),
        dc_in(products.operand(ws_.dc_in)),
        dq_buffer{memory + ws_.dq, ws_.K},
        dk_buffer{memory + ws_.dk, ws_.K},
        weights{memory + ws_.weights, ws_.L},
        dweights{memory + ws_.dweights, ws_.L},
        dc_t{memory + ws_.dc_t, ws_.K},
        kept(memory + ws_.kept_states),
        states(memory + ws_.states),
        maxima(memory + ws_.maxima),
        chunk(std::max<i64>(1, std::min(shape_.chunk, dims_.tokens))),
        scale(T(1 / std::sqrt(double(dims_.qk_dim)))) {}

  void run(i64 task) {
    sequence = task / shape.heads;
    head = task % shape.heads;
    load_states(task);
    const i64 groups = (ws.chunks + kMlstmGroup - 1) / kMlstmGroup;
    for (i64 g = 0; g < groups; ++g) {
      recompute_group(g);
      if (g + 1 < groups) std::copy_n(state_t((g + 1) * kMlstmGroup).data, ws.K * ws.V, kept + (g + 1) * ws.K * ws.V);
    }
    for (i64 g = groups - 1; g >= 0; --g) {
      if (g + 1 < groups) recompute_group(g);
      for (i64 i = end_of(g) - 1; i >= g * kMlstmGroup; --i) retreat(i);
    }
    if (!dfirst.absent()) transpose(rows_of<T>(dfirst.c, task * dims.qk_dim, 0), dc_t, dims.v_dim, dims.qk_dim);
  }

 private:
  // C^T before chunk i of the group in memory; or behind its last chunk
  Rows<T> state_t(i64 i) const { return {states + (i - group * kMlstmGroup) * ws.K * ws.V, ws.K}; }
  i64 end_of(i64 g) const { return std::min(ws.chunks, (g + 1) * kMlstmGroup); }
  i64 first_row(i64 i) const { return sequence * dims.tokens + i * chunk; }

  void load_states(i64 task) {
    std::fill_n(kept, ws.K * ws.V, T(0));
    std::fill_n(dc_t.data, ws.K * ws.V, T(0));
    maxima[0] = shape.normalize ? kMinusInf<T> : T(0);
    const i64 row = task * dims.qk_dim;
    if (!first.absent()) {
      transpose(Rows<T>{kept, ws.K}, rows_of<T>(first.c, row, 0), dims.qk_dim, dims.v_dim);
      if (shape.normalize) maxima[0] = *first.m.row<T>(task);
    }
    has_dc = !dlast.absent();
    if (!has_dc) return;
    transpose(dc_t, rows_of<T>(dlast.c, row, 0), dims.qk_dim, dims.v_dim);
    products.take(dc_in, dc_t, dims.v_dim, dims.qk_dim);
  }

  void recompute_group(i64 g) {
    group = g;
    std::copy_n(kept + g * ws.K * ws.V, ws.K * ws.V, states);
    for (i64 i = g * kMlstmGroup; i < end_of(g); ++i)
      if (i + 1 < ws.chunks || has_dc) recompute_state(i);  // or nobody asks for what is behind the last
  }

  void load_gates(i64 i) {
    const i64 r0 = first_row(i), rows = std::min(chunk, dims.tokens - i * chunk);
    compute_gates<T>(gates, rows_of<T>(in.log.i, r0, head), rows_of<T>(in.log.f, r0, head), rows, maxima[i],
                     i == 0 && first.absent(), shape.normalize,
                     shape.normalize ? rows_of<T>(stats.max, r0, head) : Rows<T>{});
  }

  void recompute_state(i64 i) {
    load_gates(i);
    maxima[i + 1] = gates.m_next;
    const i64 r0 = first_row(i);
    products.load(scaled, {rows_of<E>(in.k, r0, head * dims.qk_dim), gates.rows, dims.qk_dim, gates.carry});
    products.load(v, {rows_of<E>(in.v, r0, head * dims.v_dim), gates.rows, dims.v_dim}, MlstmForm::left_t);
    products.accumulate(state_t(i + 1), state_t(i), gates.decay, v, scaled, dims.v_dim, dims.qk_dim, gates.tail,
                        gates.rows);
  }

  // Where dq or dk are computed: the gates' gradients want them before they are rounded.
  static Rows<T> unrounded(Rows<E> out, Rows<T> buffer) {
    if constexpr (std::is_same_v<E, T>)
      return out;
    else
      return buffer;
  }
  void store_rounded(Tensor out, i64 r0, Rows<T> rows) const {
    if constexpr (!std::is_same_v<E, T>)
      for (i64 r = 0; r < gates.rows; ++r) {
        E* const to = rows_of<E>(out, r0 + r, head * dims.qk_dim).data;
        for_lanes<T>(dims.qk_dim, [&](i64 j, i64 w) { store(to + j, load(rows[r] + j, w), w); });
      }
  }

  void retreat(i64 i) {
    const i64 r0 = first_row(i);
    load_gates(i);
    for (i64 r = 0; r < gates.rows; ++r)
      gates.factor[r] = shape.normalize ? scale / (stats.denominator.row<T>(r0 + r)[head] + T(shape.eps)) : scale;
    q_rows = rows_of<E>(in.q, r0, head * dims.qk_dim), k_rows = rows_of<E>(in.k, r0, head * dims.qk_dim);
    products.load(q, {q_rows, gates.rows, dims.qk_dim});
    products.load(k, {k_rows, gates.rows, dims.qk_dim});
    products.load(v, {rows_of<E>(in.v, r0, head * dims.v_dim), gates.rows, dims.v_dim},
                  MlstmForm::left | MlstmForm::right_t);
    products.load(dh, {rows_of<E>(dh_in, r0, head * dims.v_dim), gates.rows, dims.v_dim});
    compute_weights();
    const Rows<T> dq = unrounded(rows_of<E>(din.q, r0, head * dims.qk_dim), dq_buffer),
                  dk = unrounded(rows_of<E>(din.k, r0, head * dims.qk_dim), dk_buffer);
    compute_dq(dq, state_t(i));
    compute_dk(dk);
    compute_dv(rows_of<E>(din.v, r0, head * dims.v_dim));
    compute_dgates(r0, dq, dk, has_dc ? dot(dc_t.data, state_t(i + 1).data, dims.v_dim * ws.K) : T(0));
    store_rounded(din.q, r0, dq);
    store_rounded(din.k, r0, dk);
    if (i > 0 || !dfirst.absent()) update_dc();
  }

  // With D' = K^-1/2 D / (N + eps): weights = (q k^T) o D', dweights = (dh v^T) o D'. gates.factor becomes
  // K^-1/2 inter / (N + eps).
  void compute_weights() {
    const i64 width = mlstm_pad(gates.rows);
    products.lower(weights, q, k, gates.rows, dims.qk_dim);
    products.lower(dweights, dh, v, gates.rows, dims.v_dim);
    for (i64 i = 0; i < gates.rows; ++i) {
      const Vec<T> factor(gates.factor[i]);
      for_decays(gates, i, width, [&](i64 j, Vec<T> decay, auto&& keep) {
        const Vec<T> d = factor * decay;
        keep(Vec<T>::load(weights[i] + j) * d).store(weights[i] + j);
        keep(Vec<T>::load(dweights[i] + j) * d).store(dweights[i] + j);
      });
      gates.factor[i] *= gates.inter[i];
    }
    products.take(weights_in, weights, gates.rows, gates.rows);
    products.take(dweights_in, dweights, gates.rows, gates.rows);
  }

  void compute_dq(Rows<T> dq, Rows<T> c_t) {
    if (gates.head > 0) products.take(c_in, c_t, dims.v_dim, dims.qk_dim);
    products.add_up(dq, gates.rows, dims.qk_dim, {dh, c_in, dims.v_dim, gates.factor, 0, gates.head},
                    {dweights_in, k, gates.start});
  }

  // The rows that reach the state behind the chunk, if there is a gradient of that: [this, gates.rows)
  i64 first_to_dc() const { return has_dc ? gates.tail : gates.rows; }

  void compute_dk(Rows<T> dk) {
    products.add_up(dk, gates.rows, dims.qk_dim, {v, dc_in, dims.v_dim, gates.carry, first_to_dc(), gates.rows},
                    {dweights_in, q, gates.start, /*transposed=*/true});
  }

  void compute_dv(Rows<E> dv) {
    products.add_up(dv, gates.rows, dims.v_dim,
                    {k, dc_in, dims.qk_dim, gates.carry, first_to_dc(), gates.rows, /*transposed=*/true},
                    {weights_in, dh, gates.start, /*transposed=*/true});
  }

  // dlog i_t = k_t . dk_t;  dlog f_t = sum of (q . dq - k . dk) from t to the end of its segment, and <dC, C> behind
  // the chunk if the segment reaches it. The state before a reset is dropped whatever log f is: 0 there.
  void compute_dgates(i64 r0, Rows<T> dq, Rows<T> dk, T behind) {
    for (i64 t = gates.rows - 1; t >= 0; --t) {
      const T k_dk = dot(k_rows[t], dk[t], dims.qk_dim);
      behind += dot(q_rows[t], dq[t], dims.qk_dim) - k_dk;
      if (t == static_cast<i64>(gates.start[t]) && t >= gates.head) behind = 0;
      din.log.i.row<T>(r0 + t)[head] = k_dk;
      din.log.f.row<T>(r0 + t)[head] = behind;
    }
  }

  // dC = decay dC + (factor o q)^T dh, over the rows that saw the incoming state
  void update_dc() {
    products.load(scaled, {q_rows, gates.head, dims.qk_dim, gates.factor});
    products.accumulate(dc_t, dc_t, gates.decay, dh, scaled, dims.v_dim, dims.qk_dim, 0, gates.head);
    products.take(dc_in, dc_t, dims.v_dim, dims.qk_dim);
    has_dc = true;
  }

  CellInputs din, in;
  CellState dfirst, dlast, first;
  Tensor dh_in;
  CellStats stats;
  CellShape shape;
  const CellDims& dims;
  const MlstmWorkspace& ws;
  Products products;
  ChunkGates<T> gates;
  Operand q, k, v, scaled, dh, weights_in, dweights_in, c_in, dc_in;
  Rows<T> dq_buffer, dk_buffer, weights, dweights, dc_t;
  Rows<E> q_rows, k_rows;     // of this chunk, in memory
  T *kept, *states, *maxima;  // C^T before every group; before every chunk of one; m before every chunk
  bool has_dc = false;        // dC is not 0, as it is behind a sequence whose last state nobody asked for
  i64 chunk, group = 0, sequence = 0, head = 0;
  T scale;
};

}  // namespace

void mlstm_backward(Context& ctx, CellInputs din, CellState dfirst, Tensor dh, CellState dlast, CellInputs in,
                    CellStats stats, CellState first, CellShape shape, Tensor workspace) {
  const CellDims dims = cell_dims(in, shape), ddims = cell_dims(din, shape);
  XL_CHECK(din.q.rows == in.q.rows && ddims.qk_dim == dims.qk_dim && ddims.v_dim == dims.v_dim,
           "gradients and inputs differ in shape");
  XL_CHECK(dh.rows == in.v.rows && dh.cols == in.v.cols, "dh is ({}, {}), v is ({}, {})", dh.rows, dh.cols, in.v.rows,
           in.v.cols);
  if (!first.absent()) check_cell_state(first, dims, shape, shape.normalize);
  if (!dfirst.absent()) check_cell_state(dfirst, dims, shape, false);
  if (!dlast.absent()) check_cell_state(dlast, dims, shape, false);
  if (ctx.profile)
    ctx.profile->add_flops(ctx.op_class, mlstm_backward_flops(shape, dims.tokens, dims.qk_dim, dims.v_dim));
  with_products(ctx, dh.dtype, [&]<class Products>() {
    const MlstmWorkspace ws(shape, dims.tokens, dims.qk_dim, dims.v_dim, true, Products::kTiles);
    check_workspace(workspace, ws.total);
    parallel_for(shape.sequences * shape.heads, [&](i64 task) {
      auto* const memory = workspace.row<typename Products::T>() + thread_index() * ws.total;
      BackwardTask<Products>(din, dfirst, dh, dlast, in, stats, first, shape, dims, ws, memory).run(task);
    });
  });
}

}  // namespace xlstm::XL_CPU
