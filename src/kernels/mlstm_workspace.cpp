#include "kernels/mlstm_workspace.h"

namespace xlstm {

MlstmWorkspace::MlstmWorkspace(const CellShape& shape, i64 tokens, i64 qk_dim, i64 v_dim, bool backward, bool tiles_)
    : tiles(tiles_) {
  const i64 chunk = std::max<i64>(1, std::min(shape.chunk, tokens));
  chunks = (tokens + chunk - 1) / chunk;
  L = pad(chunk);
  K = pad(qk_dim);
  V = pad(backward ? v_dim : mlstm_value_block(shape, v_dim));
  gate_vectors = take(8, L);
  weights = take(L, L);
  sums = tiles ? take(L, std::max(K, V)) : -1;
  backward ? plan_backward() : plan_forward();
}

void MlstmWorkspace::plan_forward() {
  using F = MlstmForm;
  c = take(K, V);
  n = take(1, K);
  q = given(L, K, F::left);
  k = given(L, K, F::right_t);
  v = given(L, V, F::right);
  scaled = given(L, K, F::left_t);
  weights_in = computed(L, L, F::left);
  c_in = computed(K, V, F::right);
}

void MlstmWorkspace::plan_backward() {
  using F = MlstmForm;
  dweights = take(L, L);
  dq = take(L, K);
  dk = take(L, K);
  kept_states = take((chunks + kMlstmGroup - 1) / kMlstmGroup, K * V);
  states = take(std::min(chunks, kMlstmGroup) + 1, K * V);
  maxima = take(1, mlstm_pad(chunks + 1));
  dc_t = take(V, K);
  q = given(L, K, F::left | F::right);
  k = given(L, K, F::left | F::right | F::right_t);
  v = given(L, V, F::left | F::left_t | F::right_t);
  dh = given(L, V, F::left | F::left_t | F::right);
  scaled = given(L, K, F::right);
  weights_in = computed(L, L, F::left_t);
  dweights_in = computed(L, L, F::left | F::left_t);
  c_in = computed(V, K, F::right);
  dc_in = computed(V, K, F::right | F::right_t);
}

MlstmOperand MlstmWorkspace::computed(i64 rows, i64 cols, unsigned forms) {
  MlstmOperand o{rows, cols};
  if (!tiles && (forms & MlstmForm::right_t)) o.transposed = take(cols, rows);
  for (unsigned f = 0; tiles && f < MlstmForm::count; ++f)
    if (forms & 1u << f) o.packed[f] = take(rows, cols / 2);
  return o;
}

MlstmOperand MlstmWorkspace::given(i64 rows, i64 cols, unsigned forms) {
  MlstmOperand o = computed(rows, cols, forms);
  if (!tiles && forms != MlstmForm::right_t) o.values = take(rows, cols);
  return o;
}

i64 MlstmWorkspace::take(i64 rows, i64 cols) {
  const i64 at = total;
  total += rows * cols;
  return at;
}

}  // namespace xlstm
