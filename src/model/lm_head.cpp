#include "model/lm_head.h"

#include <algorithm>
#include <bit>

#include "model/init.h"

namespace xlstm {

LmHead::LmHead(ParamStore& ps, const ModelConfig& cfg)
    : vocab_size(cfg.vocab_size),
      logit_cap(cfg.output_logit_soft_cap),
      norm(ps, "out_norm", cfg.embedding_dim, cfg.norm_eps),
      out{ps.add("lm_head.weight", cfg.vocab_size, cfg.embedding_dim, small_init(cfg.embedding_dim), /*decay=*/true)} {}

// By the vocabulary alone, on one kind of device: the cut is part of the arithmetic. On a processor about 64 MiB of f32
// logits. On a GPU up to 1 GiB: every chunk reads and writes the whole gradient of the weights, in f32. With a
// vocabulary of 50,304 and D 2048 that is 0.8 GB; 65,536 rows in chunks of 320 would move 169 GB, in chunks of 4,096 13
// GB.
i64 LmHead::chunk_rows(const Tensor& x) const {
  if (x.device == Device::cpu)
    return std::min(x.rows, std::clamp<i64>((i64{1} << 24) / vocab_size / 64 * 64, 64, 1024));
  const auto most = static_cast<std::uint64_t>(std::clamp<i64>((i64{1} << 28) / vocab_size, 64, 8192));
  return std::min(x.rows, static_cast<i64>(std::bit_floor(most)));
}

// body(begin, end, logits) for every chunk of rows of x.
template <class F>
void LmHead::for_chunks(Context& ctx, const Tensor& x, F&& body) const {
  const i64 chunk = chunk_rows(x);
  const Tensor logits = ctx.scratch->alloc("head.logits", stat_type(x.dtype), chunk, vocab_size);
  for (i64 begin = 0; begin < x.rows; begin += chunk) {
    const i64 end = std::min(begin + chunk, x.rows);
    body(begin, end, logits.slice_rows(0, end - begin));
  }
}

void LmHead::forward(Context& ctx, Tensor loss, Tensor x, Tensor targets) const {
  const ScratchScope scope(*ctx.scratch);
  const Tensor normed = ctx.scratch->alloc("head.normed", x.dtype, x.rows, x.cols);
  const Tensor rstd = ctx.scratch->alloc("head.rstd", stat_type(x.dtype), x.rows, 1);
  norm.forward(ctx, normed, rstd, x);

  const ClassScope in(ctx, OpClass::head);
  for_chunks(ctx, x, [&](i64 begin, i64 end, Tensor z) {
    out.forward(ctx, z, normed.slice_rows(begin, end));
    ops::cross_entropy_forward(ctx, loss.slice_rows(begin, end), z, targets.slice_rows(begin, end), logit_cap);
  });
}

void LmHead::forward_backward(Context& ctx, Tensor dx, Tensor loss, Tensor x, Tensor targets, Tensor scale) const {
  const ScratchScope scope(*ctx.scratch);
  const Tensor normed = ctx.scratch->alloc("head.normed", x.dtype, x.rows, x.cols);
  const Tensor rstd = ctx.scratch->alloc("head.rstd", stat_type(x.dtype), x.rows, 1);
  const Tensor dnormed = ctx.scratch->alloc("head.dnormed", x.dtype, x.rows, x.cols);
  norm.forward(ctx, normed, rstd, x);
  {
    const ClassScope in(ctx, OpClass::head);
    // Logits turn into their own gradients, unless those are narrower.
    const bool narrow = x.dtype != stat_type(x.dtype);
    const Tensor narrow_dz = narrow ? ctx.scratch->alloc("head.dlogits", x.dtype, chunk_rows(x), vocab_size) : Tensor{};
    for_chunks(ctx, x, [&](i64 begin, i64 end, Tensor z) {
      const Tensor rows = normed.slice_rows(begin, end), dz = narrow ? narrow_dz.slice_rows(0, end - begin) : z;
      out.forward(ctx, z, rows);
      ops::cross_entropy(ctx, loss.slice_rows(begin, end), dz, z, targets.slice_rows(begin, end), scale, logit_cap);
      out.backward(ctx, dnormed.slice_rows(begin, end), dz, rows);
    });
  }
  norm.backward(ctx, dx, dnormed, /*dresidual=*/{}, x, rstd);
}

void LmHead::logits(Context& ctx, Tensor y, Tensor x) const {
  const ScratchScope scope(*ctx.scratch);
  const Tensor normed = ctx.scratch->alloc("head.normed", x.dtype, x.rows, x.cols);
  const Tensor rstd = ctx.scratch->alloc("head.rstd", stat_type(x.dtype), x.rows, 1);
  norm.forward(ctx, normed, rstd, x);
  const ClassScope in(ctx, OpClass::head);
  out.forward(ctx, y, normed);
  ops::soft_cap(ctx, y, y, logit_cap);
}

}  // namespace xlstm
