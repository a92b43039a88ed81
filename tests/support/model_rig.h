#pragma once
// A small model with planned memory, for tests: built as a run builds it, measuring first.
#include <memory>
#include <vector>

#include "core/memory.h"
#include "core/random.h"
#include "model/init.h"
#include "model/language_model.h"
#include "tests/reference/model.h"

namespace xlstm {

// What a cell's gradients depend on, for tests that go through all of it.
using CellKind = std::tuple<InputGate, HeadNorm>;
std::string name_of(const CellKind& kind);

class ModelRig {
 public:
  ModelRig(const ModelConfig& cfg, i64 sequences, i64 length, Recompute policy = Recompute::none,
           DType dtype = DType::f64);

  void set_tokens(const ref::ModelTokens& tokens);
  void zero_gradients();
  std::vector<double> losses() const;
  std::vector<double> gradients() const;  // of all parameters, in order
  template <class S>
  ref::Params<S> reference_params() const;

  void forward_backward(double scale = 1);
  i64 activation_bytes() const { return own_.peak() + shared_.peak(); }

  ModelConfig cfg;
  Recompute policy;
  DType dtype;
  Context ctx;
  std::unique_ptr<ParamStore> params;
  std::unique_ptr<LanguageModel> model;
  LanguageModel::Saved saved;
  TokenRows in;
  Tensor loss, scale;

 private:
  void build(i64 sequences, i64 length);

  Arena values_, grads_, own_, shared_, scratch_, tokens_;
  std::vector<Buffer> buffers_;
};

// Random ids and targets; a document starts at every row's first token and wherever `starts_at` says.
ref::ModelTokens random_tokens(i64 sequences, i64 length, i64 vocab, std::uint64_t seed,
                               const std::vector<i64>& starts_at = {});

// Values of all parameters, drawn so that every one matters: the real initialisation leaves gates and output gates at
// zero.
void randomise(const ParamStore& params, std::uint64_t seed);

double value_at(const Tensor& t, i64 r, i64 c);  // f32 or f64

template <class S>
ref::Params<S> ModelRig::reference_params() const {
  ref::Params<S> out;
  for (const ParamInfo& info : params->all()) {
    const Tensor w = info.param.value;
    out[info.name] = ref::make_matrix<S>(w.rows, w.cols, [&](i64 r, i64 c) { return S(value_at(w, r, c)); });
  }
  return out;
}

}  // namespace xlstm
