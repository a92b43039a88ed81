#pragma once
// Every operation of the framework, one line each, with its formula. An op exists once per back end: in
// kernels/cpu/*.cpp (compiled once per kind of register; AMX's are AVX-512's, but for products) and in
// kernels/cuda/*.cu; ops::name picks by the context. The GPU's are weak symbols: null in a program that is linked
// without them.
//
// Outputs come first, then inputs, then numbers. Shapes are read off the tensors. B sequences of T tokens lie as B*T
// rows. Gradients of parameters (dw) accumulate (+=); gradients of activations (dx) overwrite (=). Outputs may not
// alias inputs unless said here. Ops never allocate, synchronise or log; `workspace` is memory they may scribble on.
// Letters: docs/notation.md. Meaning of each op: tests/reference. Statistics have dtype stat_type(x.dtype).
//
// Types: with f32 or f64 everything is of that type but ids (i32) and what is said to be f64. With bf16, activations
// and the matrices of products are bf16; statistics, gates, logits, losses, weights of norms, biases and all gradients
// of parameters are f32.
//
// Ids and targets out of range: the CPU throws. A GPU has none to throw at and gives NaN, so that the update is not
// applied: a row y of the embedding, a loss. Nothing is read or written outside, and their gradients add nothing.
#include "kernels/cell.h"
#include "kernels/op_scope.h"

namespace xlstm {

template <class Signature>
struct Op;

template <class... Args>
struct Op<void(Context&, Args...)> {
  using Function = void (*)(Context&, Args...);
  const char* name;
  Function cpu[kCpuIsaCount];
  Function gpu;

  // The one door that every computation goes through: the dry run that sizes the arenas, the profile, the checks of
  // run.check, and whatever has to say where a fault was.
  void operator()(Context& ctx, Args... args) const {
    if (ctx.dry()) return OpScope(ctx, name).count_bytes(args...);
    const Function f = ctx.device == Device::cpu ? cpu[static_cast<int>(ctx.isa)] : gpu;
    XL_CHECK(f != nullptr, "{} is not built for {}", name, name_of(ctx.device));
    if (!OpScope::needed(ctx)) return f(ctx, args...);
    OpScope scope(ctx, name);
    scope.run([&] { f(ctx, args...); });
    scope.count_bytes(args...);
    scope.check_values(args...);
  }
};

#if defined(__x86_64__)
#define XL_CPU_IMPLS(name) \
  { cpu_baseline::name, cpu_avx512::name, cpu_avx512::name }
#else
#define XL_CPU_IMPLS(name) \
  { cpu_baseline::name, nullptr, nullptr }
#endif

#define XL_OP(name, ...)                                                                       \
  namespace cpu_baseline {                                                                     \
  void name(Context& ctx, __VA_ARGS__);                                                        \
  }                                                                                            \
  namespace cpu_avx512 {                                                                       \
  void name(Context& ctx, __VA_ARGS__);                                                        \
  }                                                                                            \
  namespace gpu {                                                                              \
  [[gnu::weak]] void name(Context& ctx, __VA_ARGS__);                                          \
  }                                                                                            \
  namespace ops {                                                                              \
  inline constexpr Op<void(Context&, __VA_ARGS__)> name{#name, XL_CPU_IMPLS(name), gpu::name}; \
  }

// ---- elementary
// y = value
XL_OP(fill, Tensor y, double value)
// y = x, rounded to y's type
XL_OP(copy, Tensor y, Tensor x)
// y = x + z                                                             y may be x or z
XL_OP(add, Tensor y, Tensor x, Tensor z)
// y = cap tanh(x / cap)                                                 y may be x
XL_OP(soft_cap, Tensor y, Tensor x, double cap)

// ---- matrix products: c (+)= op(a) op(b)
struct MatmulFlags {
  bool transpose_a = false, transpose_b = false, accumulate = false;
};
// a and b are of one type; so is c, or f32 where they are bf16
XL_OP(matmul, Tensor c, Tensor a, Tensor b, MatmulFlags flags)
// c = z + op(a) op(b), rounded once; z is of c's type. flags.accumulate is not for it
XL_OP(matmul_add, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags)
// That the sides fit together, and the types.
void check_product(const Tensor& c, const Tensor& a, const Tensor& b, MatmulFlags flags);
void check_sum(const Tensor& c, const Tensor& z, const Tensor& a, const Tensor& b, MatmulFlags flags);

// ---- embedding: y_r = table[ids_r];  dtable[ids_r] += dy_r            ids: (rows, 1) i32
XL_OP(embedding_forward, Tensor y, Tensor ids, Tensor table)
XL_OP(embedding_backward, Tensor dtable, Tensor dy, Tensor ids)

// ---- RMSNorm: rstd = (mean x^2 + eps)^-1/2;  y = x rstd w             w: (1, D), rstd: (rows, 1)
//      dx = dresidual + the gradient through y: x goes on as the residual stream; dresidual may be absent; dx may be dy
//      or dresidual
XL_OP(rmsnorm_forward, Tensor y, Tensor rstd, Tensor x, Tensor w, double eps)
XL_OP(rmsnorm_backward, Tensor dx, Tensor dw, Tensor dy, Tensor dresidual, Tensor x, Tensor w, Tensor rstd)
// The same, and the pre-activations of gates from y before it is rounded: pre = (x rstd w) gates^T
//      pre: (rows, 2H), gates: (2H, D); dx takes no other tensor's place here
XL_OP(rmsnorm_gates_forward, Tensor y, Tensor rstd, Tensor pre, Tensor x, Tensor w, Tensor gates, double eps)
XL_OP(rmsnorm_gates_backward, Tensor dx, Tensor dw, Tensor dgates, Tensor dy, Tensor dresidual, Tensor dpre, Tensor x,
      Tensor w, Tensor gates, Tensor rstd)

// ---- SwiGLU: y = silu(gate) up, with a row of gate_up being [gate | up]   dgate_up may be gate_up
XL_OP(swiglu_forward, Tensor y, Tensor gate_up)
XL_OP(swiglu_backward, Tensor dgate_up, Tensor dy, Tensor gate_up)

// ---- gates: x = cap tanh((pre + bias) / cap) for a row [i_0..i_H-1 | f_0..f_H-1] of pre (rows, 2H);
//      log.f = log sigmoid(x_f), -inf where starts != 0 (the state is dropped there: a document begins);
//      log.i = x_i (exponential input gate) or log sigmoid(x_i) (sigmoid)
//      log.i, log.f: (rows, H); bias: (1, 2H); starts: (rows, 1) i32. dlog.f is ignored where starts != 0.
XL_OP(gates_forward, Gates log, Tensor pre, Tensor bias, Tensor starts, InputGate gate, double cap)
XL_OP(gates_backward, Tensor dpre, Tensor dbias, Gates dlog, Tensor pre, Tensor bias, Tensor starts, InputGate gate,
      double cap)
//      extremes (2, 2H): row 0 = max(row 0, pre + bias over all rows), row 1 = the same with min; NaN is passed over
XL_OP(gate_extremes, Tensor extremes, Tensor pre, Tensor bias)

// ---- the mLSTM cell, chunkwise (spec §3.2-3.4, §4; kernels/cell.h for shapes and meaning)
XL_OP(mlstm_forward, Tensor h, CellStats stats, CellState last, CellInputs in, CellState first, CellShape shape,
      Tensor workspace)
XL_OP(mlstm_backward, CellInputs din, CellState dfirst, Tensor dh, CellState dlast, CellInputs in, CellStats stats,
      CellState first, CellShape shape, Tensor workspace)
// The recurrent form, token by token (spec §2): reads and updates `state` in place; any number of tokens per sequence.
XL_OP(mlstm_step, Tensor h, CellState state, CellInputs in, CellShape shape)

// ---- per-head norm and output gate: x^ = (h - mean) rstd per head;  y = sigmoid(o) x^ w
//      h, o, y: (rows, heads * V); w: (1, heads * V); mean, rstd: (rows, heads); rstd = (mean of (h - mean)^2 +
//      eps)^-1/2 layernorm: mean is that of h; rmsnorm: it is 0. dh may be dy, d_o may be o
XL_OP(head_norm_gate_forward, Tensor y, Tensor mean, Tensor rstd, Tensor h, Tensor o, Tensor w, double eps,
      HeadNorm norm)
XL_OP(head_norm_gate_backward, Tensor dh, Tensor d_o, Tensor dw, Tensor dy, Tensor h, Tensor o, Tensor w, Tensor mean,
      Tensor rstd, HeadNorm norm)

// ---- loss: c = cap tanh(z / cap); loss_r = log sum exp(c_r) - c_r[target_r]; target -1: loss and gradient are 0
//      cross_entropy also gives dz = scale (softmax(c) - onehot) (1 - (c / cap)^2); dz may be logits if their types are
//      the same: logits of a bf16 model are f32, dz is bf16
//      loss: (rows, 1) of stat_type; targets: (rows, 1) i32; scale: (1, 1) f64, in memory because it is another one in
//      every update
XL_OP(cross_entropy, Tensor loss, Tensor dz, Tensor logits, Tensor targets, Tensor scale, double cap)
XL_OP(cross_entropy_forward, Tensor loss, Tensor logits, Tensor targets, double cap)

// ---- reductions in a fixed order; f64 out
// out = sum of x; out: (1, 1)
XL_OP(sum, Tensor out, Tensor x)
// out_b = sum of squares of elements [b, b + 1) kSumBlock of x: (1, n); out: (sum_blocks(n), 1)
constexpr i64 kSumBlock = i64{1} << 16;
constexpr i64 sum_blocks(i64 n) { return (n + kSumBlock - 1) / kSumBlock; }
XL_OP(sum_squares, Tensor out, Tensor x)

// ---- one update. The numbers of an update stand in memory, (1, kUpdateScalars) f64: the host writes the first five,
//      clip the others, adamw reads them; so nothing has to come back from a device in between.
enum class UpdateScalar {
  lr,
  correction1,
  correction2,
  inverse_tokens,
  norm_limit,
  loss,
  grad_norm,
  grad_scale,
  applied
};
constexpr i64 kUpdateScalars = 9;
// loss = inverse_tokens sum of loss_sums;  grad_norm = (sum of square_sums)^1/2
// grad_scale = limit / max(limit, grad_norm), 1 if limit is 0;  applied = 1 where loss and grad_norm are finite and
// grad_norm is at most norm_limit (which may be infinite), else 0
XL_OP(clip, Tensor scalars, Tensor loss_sums, Tensor square_sums, double limit)
// AdamW with decoupled decay; g is scaled by grad_scale first; correction1 = 1 - beta1^t, correction2 = 1 - beta2^t
//      m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  w -= lr (m / correction1 / (sqrt(v / correction2) + eps) + decay
//      w) All (1, n). `rounded`, if present, is w in a narrower type. Nothing changes where applied = 0.
struct AdamWConstants {
  double beta1, beta2, eps, weight_decay;
};
XL_OP(adamw, Tensor w, Tensor rounded, Tensor m, Tensor v, Tensor g, Tensor scalars, AdamWConstants c)

}  // namespace xlstm
