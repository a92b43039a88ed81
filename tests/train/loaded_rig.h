#pragma once
// A checkpoint whose every weight matters, loaded as `xlstm eval` and `xlstm generate` do, and the plainest way to ask
// it: one pass over all tokens so far, for every single token.
#include <map>
#include <memory>

#include "tests/support/model_rig.h"
#include "tests/train/run_rig.h"
#include "train/loaded_model.h"

namespace xlstm {

// `padding` tokens of the model's vocabulary are unknown to the tokenizer.
inline const LoadedModel& loaded_model(i64 padding = 0) {
  static const TempDir dir;
  static std::map<i64, std::unique_ptr<LoadedModel>> loaded;
  std::unique_ptr<LoadedModel>& model = loaded[padding];
  if (!model) {
    TrainConfig cfg = tiny_run();
    cfg.model.vocab_size += padding;
    cfg.run.threads = 1;
    cfg.resolve();
    const fs::path run = dir / fmt::format("{}", padding);
    Trainer trainer(run, cfg, {"test"});
    randomise(trainer.state().params, 3);
    trainer.run(/*stop_at=*/1);
    model = std::make_unique<LoadedModel>(run);
  }
  return *model;
}

// The logits of the token after `ids`. The state is dropped at the first token and at every end of a document.
inline std::vector<float> logits_after(const LoadedModel& loaded, const std::vector<int>& ids) {
  const LanguageModel& model = loaded.model();
  const i64 rows = static_cast<i64>(ids.size());
  const auto plan = [&](Arena& a) {
    TokenRows in{.ids = a.alloc("ids", DType::i32, rows, 1),
                 .targets = {},
                 .seq = {1, rows, a.alloc("starts", DType::i32, rows, 1)}};
    const auto saved = model.plan_forward(a, DType::f32, rows);
    const auto state = model.plan_state(a, DType::f32, 1);
    return std::tuple(in, saved, state, a.alloc("logits", DType::f32, 1, model.cfg.vocab_size));
  };
  Buffer memory;
  const auto [in, saved, last, logits] = allocate_planned(memory, "one pass", nullptr, plan);
  for (i64 r = 0; r < rows; ++r) {
    const int id = ids[static_cast<std::size_t>(r)];
    *in.ids.row<std::int32_t>(r) = id;
    *in.seq.starts.row<std::int32_t>(r) = r == 0 || id == sample_tokenizer().eod_id();
  }
  const LanguageModel::State nothing(model.blocks.size(), CellState{});
  Arena scratch = Arena::measuring("scratch");
  Context dry{.scratch = &scratch};
  model.prefill(dry, logits, in.ids, in.seq, saved, last, nothing);
  const Buffer scratch_memory(std::max<i64>(scratch.peak(), 1));
  scratch = Arena("scratch", scratch_memory.data(), scratch.peak());
  Context ctx{.isa = best_cpu_isa(), .scratch = &scratch};
  model.prefill(ctx, logits, in.ids, in.seq, saved, last, nothing);
  return {logits.row<float>(), logits.row<float>() + logits.cols};
}

}  // namespace xlstm
