// mlstm_backward: one task per (sequence, head). It recomputes the states at all chunk boundaries, then walks the
// chunks in reverse with the gradient dC of the state (spec §5.2, §5.6). The denominator N and all maxima are
// constants.
#include "kernels/cpu/mlstm_chunk.h"

namespace xlstm::XL_CPU {

namespace {

template <class E>
struct BackwardTask {
  using T = ArithmeticOf<E>;
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
        gates(memory + ws_.gate_vectors, ws_.L),
        q{memory + ws_.q, ws_.K},
        k{memory + ws_.k, ws_.K},
        scaled{memory + ws_.scaled, ws_.K},
        v{memory + ws_.v, ws_.V},
        dh{memory + ws_.dh, ws_.V},
        k_t{memory + ws_.k_t, ws_.L},
        v_t{memory + ws_.v_t, ws_.L},
        dq_rows{memory + ws_.dq, ws_.K},
        dk_rows{memory + ws_.dk, ws_.K},
        weights{memory + ws_.weights, ws_.L},
        dweights{memory + ws_.dweights, ws_.L},
        dc{memory + ws_.dc, ws_.V},
        dc_t{memory + ws_.dc_t, ws_.K},
        states(memory + ws_.states),
        maxima(memory + ws_.maxima),
        chunk(std::max<i64>(1, std::min(shape_.chunk, dims_.tokens))),
        scale(T(1 / std::sqrt(double(dims_.qk_dim)))) {}

  void run(i64 task) {
    sequence = task / shape.heads;
    head = task % shape.heads;
    load_states(task);
    for (i64 i = 0; i < ws.chunks; ++i) recompute_state(i);
    for (i64 i = ws.chunks - 1; i >= 0; --i) retreat(i);
    if (dfirst.absent()) return;
    for (i64 r = 0; r < dims.qk_dim; ++r)
      std::memcpy(dfirst.c.row<T>(task * dims.qk_dim + r), dc[r], dims.v_dim * sizeof(T));
  }

 private:
  // C^T before chunk i
  Rows<T> state_t(i64 i) const { return {states + i * ws.K * ws.V, ws.K}; }
  i64 first_row(i64 i) const { return sequence * dims.tokens + i * chunk; }

  void load_states(i64 task) {
    const std::size_t bytes = static_cast<std::size_t>(ws.K * ws.V) * sizeof(T);
    std::memset(states, 0, bytes);
    std::memset(dc.data, 0, bytes);
    std::memset(dc_t.data, 0, bytes);
    maxima[0] = shape.normalize ? kMinusInf<T> : T(0);
    const i64 row = task * dims.qk_dim;
    if (!first.absent()) {
      transpose(state_t(0), rows_of<T>(first.c, row, 0), dims.qk_dim, dims.v_dim);
      if (shape.normalize) maxima[0] = *first.m.row<T>(task);
    }
    if (dlast.absent()) return;
    pack(dc, rows_of<T>(dlast.c, row, 0), dims.qk_dim, dims.v_dim);
    transpose(dc_t, dc, dims.qk_dim, dims.v_dim);
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
    pack(scaled, rows_of<E>(in.k, r0, head * dims.qk_dim), gates.rows, dims.qk_dim, gates.carry);
    pack(v, rows_of<E>(in.v, r0, head * dims.v_dim), gates.rows, dims.v_dim);
    for_tiles<T>(dims.v_dim, ws.K, [&](auto& tile) {
      tile.load(state_t(i), gates.decay);
      tile.add(transposed(v), scaled, gates.tail, gates.rows);
      tile.store(state_t(i + 1));
    });
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
    pack(q, rows_of<E>(in.q, r0, head * dims.qk_dim), gates.rows, dims.qk_dim);
    pack(k, rows_of<E>(in.k, r0, head * dims.qk_dim), gates.rows, dims.qk_dim);
    pack(v, rows_of<E>(in.v, r0, head * dims.v_dim), gates.rows, dims.v_dim);
    pack(dh, rows_of<E>(dh_in, r0, head * dims.v_dim), gates.rows, dims.v_dim);
    transpose(k_t, k, gates.rows, dims.qk_dim);
    transpose(v_t, v, gates.rows, dims.v_dim);
    compute_weights();
    const Rows<T> dq = unrounded(rows_of<E>(din.q, r0, head * dims.qk_dim), dq_rows),
                  dk = unrounded(rows_of<E>(din.k, r0, head * dims.qk_dim), dk_rows);
    compute_dq(dq, state_t(i));
    compute_dk(dk);
    compute_dv(rows_of<E>(din.v, r0, head * dims.v_dim));
    compute_dgates(r0, dq, dk, dot(dc_t.data, state_t(i + 1).data, dims.v_dim * ws.K));
    store_rounded(din.q, r0, dq);
    store_rounded(din.k, r0, dk);
    update_dc();
  }

  // With D' = K^-1/2 D / (N + eps): weights = (q k^T) o D', dweights = (dh v^T) o D'. gates.factor becomes
  // K^-1/2 inter / (N + eps).
  void compute_weights() {
    const i64 width = mlstm_pad(gates.rows);
    for_tiles<T>(gates.rows, width, [&](auto& tile) {
      if (tile.j >= tile.i + kTileRows) return;
      tile.add(plain(q), k_t, 0, dims.qk_dim);
      tile.store(weights);
    });
    for_tiles<T>(gates.rows, width, [&](auto& tile) {
      if (tile.j >= tile.i + kTileRows) return;
      tile.add(plain(dh), v_t, 0, dims.v_dim);
      tile.store(dweights);
    });
    for (i64 i = 0; i < gates.rows; ++i) {
      const Vec<T> factor(gates.factor[i]);
      for_decays(gates, i, width, [&](i64 j, Vec<T> decay, auto&& keep) {
        const Vec<T> d = factor * decay;
        keep(Vec<T>::load(weights[i] + j) * d).store(weights[i] + j);
        keep(Vec<T>::load(dweights[i] + j) * d).store(dweights[i] + j);
      });
      gates.factor[i] *= gates.inter[i];
    }
  }

  void compute_dq(Rows<T> dq, Rows<const T> c_t) {
    for_tiles<T>(gates.rows, ws.K, [&](auto& tile) {
      if (tile.i < gates.head) {
        tile.add(plain(dh), c_t, 0, dims.v_dim);
        tile.scale_rows(gates.factor);
      }
      tile.add(plain(dweights), k, static_cast<i64>(gates.start[tile.i]), std::min(gates.rows, tile.i + kTileRows));
      tile.store(dq, gates.rows, dims.qk_dim);
    });
  }

  void compute_dk(Rows<T> dk) {
    for_tiles<T>(gates.rows, ws.K, [&](auto& tile) {
      if (tile.i + kTileRows > gates.tail) {
        tile.add(plain(v), dc_t, 0, dims.v_dim);
        tile.scale_rows(gates.carry);
      }
      tile.add(transposed(dweights), q, tile.i, gates.rows);
      tile.store(dk, gates.rows, dims.qk_dim);
    });
  }

  void compute_dv(Rows<E> dv) {
    for_tiles<T>(gates.rows, ws.V, [&](auto& tile) {
      if (tile.i + kTileRows > gates.tail) {
        tile.add(plain(k), dc, 0, dims.qk_dim);
        tile.scale_rows(gates.carry);
      }
      tile.add(transposed(weights), dh, tile.i, gates.rows);
      tile.store(dv, gates.rows, dims.v_dim);
    });
  }

  // dlog i_t = k_t . dk_t;  dlog f_t = sum of (q . dq - k . dk) from t to the end of its segment, and <dC, C> behind
  // the chunk if the segment reaches it. The state before a reset is dropped whatever log f is: 0 there.
  void compute_dgates(i64 r0, Rows<T> dq, Rows<T> dk, T behind) {
    for (i64 t = gates.rows - 1; t >= 0; --t) {
      const T k_dk = dot(k[t], dk[t], dims.qk_dim);
      behind += dot(q[t], dq[t], dims.qk_dim) - k_dk;
      if (t == static_cast<i64>(gates.start[t]) && t >= gates.head) behind = 0;
      din.log.i.row<T>(r0 + t)[head] = k_dk;
      din.log.f.row<T>(r0 + t)[head] = behind;
    }
  }

  // dC = decay dC + (factor o q)^T dh, over the rows that saw the incoming state
  void update_dc() {
    pack(scaled, q, gates.head, dims.qk_dim, gates.factor);
    for_tiles<T>(dims.v_dim, ws.K, [&](auto& tile) {
      tile.load(dc_t, gates.decay);
      tile.add(transposed(dh), scaled, 0, gates.head);
      tile.store(dc_t);
    });
    transpose(dc, dc_t, dims.v_dim, dims.qk_dim);
  }

  CellInputs din, in;
  CellState dfirst, dlast, first;
  Tensor dh_in;
  CellStats stats;
  CellShape shape;
  const CellDims& dims;
  const MlstmWorkspace& ws;
  ChunkGates<T> gates;
  Rows<T> q, k, scaled, v, dh, k_t, v_t, dq_rows, dk_rows, weights, dweights, dc, dc_t;
  T *states, *maxima;  // C^T and m before every chunk, and behind the last
  i64 chunk, sequence = 0, head = 0;
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
  const MlstmWorkspace ws(shape, dims.tokens, dims.qk_dim, dims.v_dim, true);
  check_workspace(workspace, ws.total);
  with_element_type(dh.dtype, [&]<class E, class T>() {
    parallel_for(shape.sequences * shape.heads, [&](i64 task) {
      T* memory = workspace.row<T>() + thread_index() * ws.total;
      BackwardTask<E>(din, dfirst, dh, dlast, in, stats, first, shape, dims, ws, memory).run(task);
    });
  });
}

}  // namespace xlstm::XL_CPU
