#include "tests/support/model_rig.h"

#include <cmath>

namespace xlstm {

std::string name_of(const CellKind& kind) {
  const auto [gate, norm] = kind;
  return fmt::format("{}_{}", names_of(gate)[static_cast<std::size_t>(gate)],
                     names_of(norm)[static_cast<std::size_t>(norm)]);
}

double value_at(const Tensor& t, i64 r, i64 c) {
  return t.dtype == DType::f64 ? t.row<double>(r)[c] : static_cast<double>(t.row<float>(r)[c]);
}

namespace {

void set_value(const Tensor& t, i64 r, i64 c, double x) {
  if (t.dtype == DType::f64)
    t.row<double>(r)[c] = x;
  else
    t.row<float>(r)[c] = static_cast<float>(x);
}

}  // namespace

ModelRig::ModelRig(const ModelConfig& config, i64 sequences, i64 length, Recompute p, DType t)
    : cfg(config),
      policy(p),
      dtype(t),
      values_(Arena::measuring("values")),
      grads_(Arena::measuring("grads")),
      own_(Arena::measuring("own")),
      shared_(Arena::measuring("shared")),
      scratch_(Arena::measuring("scratch")),
      tokens_(Arena::measuring("tokens")) {
  build(sequences, length);
  for (Arena* a : {&values_, &grads_, &own_, &shared_, &scratch_, &tokens_}) {
    buffers_.emplace_back(std::max<i64>(a->peak(), 1));
    *a = Arena(a->name(), buffers_.back().data(), a->peak());
  }
  build(sequences, length);
  randomise(*params, 1);
  zero_gradients();
}

void ModelRig::build(i64 sequences, i64 length) {
  const i64 rows = sequences * length;
  ctx = {.isa = best_cpu_isa(), .scratch = &scratch_};
  params = std::make_unique<ParamStore>(values_, grads_, dtype);
  model = std::make_unique<LanguageModel>(*params, cfg);
  saved = model->plan(own_, shared_, policy, dtype, rows);
  in = {.ids = tokens_.alloc("ids", DType::i32, rows, 1),
        .targets = tokens_.alloc("targets", DType::i32, rows, 1),
        .seq = {sequences, length, tokens_.alloc("starts", DType::i32, rows, 1)}};
  loss = tokens_.alloc("loss", stat_type(dtype), rows, 1);
  scale = tokens_.alloc("scale", DType::f64, 1, 1);
  if (ctx.dry()) {
    forward_backward();
    model->forward(ctx, loss, in, saved);
  }
}

void randomise(const ParamStore& params, std::uint64_t seed) {
  std::uint64_t which = 0;
  for (const ParamInfo& info : params.all()) {
    const RandomStream random(seed, RandomUse::test, ++which);
    const Tensor w = info.param.value;
    const bool one = info.init.kind == Init::Kind::constant && info.init.a == 1;
    const double scale = w.rows > 1 && w.cols > 1 ? 1 / std::sqrt(static_cast<double>(w.cols)) : 0.3;
    for (i64 r = 0; r < w.rows; ++r)
      for (i64 c = 0; c < w.cols; ++c)
        set_value(w, r, c, (one ? 1 : 0) + scale * random.normal(static_cast<std::uint64_t>(r * w.cols + c)));
  }
}

void ModelRig::forward_backward(double factor) {
  if (!ctx.dry()) *scale.row<double>() = factor;
  model->forward_backward(ctx, loss, in, saved, policy, scale);
}

void ModelRig::zero_gradients() {
  for (const ParamInfo& info : params->all()) ops::fill(ctx, info.param.grad, 0);
}

void ModelRig::set_tokens(const ref::ModelTokens& tokens) {
  for (i64 r = 0; r < in.ids.rows; ++r) {
    *in.ids.row<std::int32_t>(r) = tokens.ids[static_cast<std::size_t>(r)];
    *in.targets.row<std::int32_t>(r) = tokens.targets[static_cast<std::size_t>(r)];
    *in.seq.starts.row<std::int32_t>(r) = tokens.starts[static_cast<std::size_t>(r)];
  }
}

std::vector<double> ModelRig::losses() const {
  std::vector<double> out;
  for (i64 r = 0; r < loss.rows; ++r) out.push_back(value_at(loss, r, 0));
  return out;
}

std::vector<double> ModelRig::gradients() const {
  std::vector<double> out;
  for (const ParamInfo& info : params->all())
    for (i64 r = 0; r < info.param.grad.rows; ++r)
      for (i64 c = 0; c < info.param.grad.cols; ++c) out.push_back(value_at(info.param.grad, r, c));
  return out;
}

ref::ModelTokens random_tokens(i64 sequences, i64 length, i64 vocab, std::uint64_t seed,
                               const std::vector<i64>& starts_at) {
  ref::ModelTokens tokens{sequences, length, {}, {}, {}};
  const RandomStream random(seed, RandomUse::test, 99);
  const auto below = static_cast<std::uint32_t>(vocab);
  for (i64 r = 0; r < sequences * length; ++r) {
    tokens.ids.push_back(static_cast<int>(random.bits(static_cast<std::uint64_t>(2 * r)) % below));
    tokens.targets.push_back(static_cast<int>(random.bits(static_cast<std::uint64_t>(2 * r + 1)) % below));
    tokens.starts.push_back(r % length == 0);
  }
  for (const i64 r : starts_at) tokens.starts[static_cast<std::size_t>(r)] = 1;
  return tokens;
}

}  // namespace xlstm
