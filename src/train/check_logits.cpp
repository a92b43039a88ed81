#include "train/check_logits.h"

#include "core/random.h"
#include "train/loaded_model.h"
#include "train/safetensors.h"

namespace xlstm {

void write_check_logits(const fs::path& checkpoint, const fs::path& out, i64 tokens) {
  const LoadedModel loaded(checkpoint, DeviceChoice::cpu);
  const LanguageModel& model = loaded.model();
  struct Memory {
    TokenRows in;
    LanguageModel::Saved saved;
    Tensor logits;
  };
  Buffer buffer;
  const Memory m = allocate_planned(buffer, "logits", nullptr, [&](Arena& a) {
    return Memory{.in = {.ids = a.alloc("ids", DType::i32, tokens, 1),
                         .targets = {},
                         .seq = {1, tokens, a.alloc("starts", DType::i32, tokens, 1)}},
                  .saved = model.plan_forward(a, DType::f32, tokens),
                  .logits = a.alloc("logits", DType::f32, tokens, model.cfg.vocab_size)};
  });
  const RandomStream random(1, RandomUse::test);
  for (i64 t = 0; t < tokens; ++t) {
    m.in.ids.row<std::int32_t>()[t] = static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(t)) %
                                                                static_cast<std::uint32_t>(model.cfg.vocab_size));
    m.in.seq.starts.row<std::int32_t>()[t] = t == 0;
  }
  Arena measured = Arena::measuring("scratch");
  Context dry = loaded.machine().context(measured);
  model.logits(dry, m.logits, m.in, m.saved);
  const Buffer scratch_buffer(std::max<i64>(measured.peak(), 1));
  Arena scratch("scratch", scratch_buffer.data(), measured.peak());
  Context ctx = loaded.context(scratch);
  model.logits(ctx, m.logits, m.in, m.saved);
  const NamedTensor tensors[] = {{"ids", m.in.ids.flat()}, {"logits", m.logits, /*is_matrix=*/true}};
  write_safetensors(out, tensors);
}

}  // namespace xlstm
