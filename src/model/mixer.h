#pragma once
// What a sequence mixer must offer, and the closed list of those that exist. Adding one: docs/howto.md.
#include <variant>

#include "model/mlstm.h"

namespace xlstm {

template <class M>
concept SequenceMixer = requires(const M m, Context& ctx, SavePlan& plan, Tensor t, const typename M::Saved saved,
                                 const SequenceView& seq) {
  { m.plan(plan, DType::f32, i64{}) } -> std::same_as<typename M::Saved>;
  m.forward(ctx, /*y=*/t, /*residual=*/t, /*x=*/t, saved, seq);
  m.rebuild(ctx, saved, seq);
  m.backward(ctx, /*dx=*/t, /*dgate_pre=*/t, /*dy=*/t, /*x=*/t, saved, seq);
  // What the norm before it computes for it in f32, before x is rounded: saved.gate_pre = x gates^T
  { m.gates } -> std::convertible_to<const Param&>;
  { saved.gate_pre } -> std::convertible_to<Tensor>;
};

// A mixer that can generate: it carries a State from token to token.
template <class M>
concept RecurrentMixer = SequenceMixer<M> &&
    requires(const M m, Context& ctx, Arena& arena, Tensor t, const typename M::Saved saved, const SequenceView& seq,
             typename M::State state) {
  { m.plan_state(arena, DType::f32, i64{}) } -> std::same_as<typename M::State>;
  m.forward_with_state(ctx, /*y=*/t, /*residual=*/t, /*x=*/t, saved, seq, /*last=*/state, /*first=*/state);
  m.step(ctx, /*y=*/t, /*residual=*/t, /*x=*/t, saved, seq, state);
};

template <RecurrentMixer... M>
struct MixerList {
  using Layer = std::variant<M...>;
  using Saved = std::variant<typename M::Saved...>;
  using State = std::variant<typename M::State...>;
};
using Mixers = MixerList<MLstm>;

inline Mixers::Layer make_mixer(ParamStore& ps, const std::string& name, const ModelConfig& cfg) {
  switch (cfg.mixer.type) {
    case MixerType::mlstm: return MLstm(ps, name + ".mlstm_layer", cfg);
  }
  throw Error(fmt::format("unknown mixer type {}", static_cast<int>(cfg.mixer.type)));
}

// visit_mixer(mixer, saved, [&](auto& m, auto& s) { ... }) with the two of the same kind; a State can stand for Saved.
template <class Other, class F>
decltype(auto) visit_mixer(const Mixers::Layer& mixer, const Other& other, F&& f) {
  return std::visit(
      [&](const auto& m) -> decltype(auto) {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<Other, Mixers::State>)
          return f(m, std::get<typename M::State>(other));
        else
          return f(m, std::get<typename M::Saved>(other));
      },
      mixer);
}

}  // namespace xlstm
