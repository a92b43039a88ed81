// Weights out of a run and into another one: to the bit, whole or not at all, and refused by tensor.
#include <cerrno>
#include <fstream>

#include "core/bf16.h"
#include "model/flops.h"
#include "tests/train/checkpoint_cases.h"
#include "tests/train/loaded_rig.h"
#include "train/check_logits.h"
#include "train/model_export.h"
#include "train/model_import.h"
#include "train/weight_files.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A run of one step whose widths the Hugging Face layout can say, with weights that all differ.
TrainConfig wide_run(InputGate gate = InputGate::exp) {
  TrainConfig cfg = tiny_run();
  cfg.model.embedding_dim = 128;
  cfg.model.mixer.input_gate = gate;
  cfg.run.threads = 1;
  cfg.resolve();
  return cfg;
}

const fs::path& trained(InputGate gate = InputGate::exp) {
  static const TempDir dir;
  static std::map<InputGate, fs::path> runs;
  if (!runs.contains(gate)) {
    runs[gate] = dir / names_of(gate)[static_cast<std::size_t>(gate)];
    Trainer trainer(runs[gate], wide_run(gate), {"test"});
    randomise(trainer.state().params, 3);
    trainer.run(/*stop_at=*/1);
  }
  return runs[gate];
}

struct ModelExchange : TemporaryFolder {
  ExportResult export_to(const fs::path& out, ExportOptions o = {}, InputGate gate = InputGate::exp) const {
    o.out = out;
    if (o.tokenizer.empty()) o.tokenizer = trained(gate) / "tokenizer.model";
    return export_checkpoint(open_newest_checkpoint(trained(gate)), o);
  }
  std::string refused(const fs::path& folder, const ImportOptions& o = {}) const {
    ImportOptions options = o;
    options.run = dir / "refused";
    try {
      import_model(folder, options);
      return "";
    } catch (const UserError& e) {
      EXPECT_FALSE(fs::exists(dir / "refused"));
      return e.what();
    }
  }
};

// Writes a safetensors file again, with its tensors changed.
void rewrite(const fs::path& file, const std::function<void(std::vector<NamedTensor>&)>& change) {
  Tensors all;
  {
    const SafetensorsFile old(file);
    for (const SafetensorsEntry& e : old.tensors()) {
      const bool matrix = e.shape.size() == 2;
      all.add(e.name, e.dtype, matrix ? e.shape[0] : 1, matrix ? e.shape[1] : e.shape[0]);
      all.list.back().is_matrix = matrix;
      old.read_into(all.list.back().value, e.name);
    }
  }
  change(all.list);
  write_safetensors(file, all.list);
}

TEST_F(ModelExchange, ThereAndBackIsExactInEveryShape) {
  const std::string sha = open_newest_checkpoint(trained()).weights_sha256();
  for (const auto& [name, options] : {std::pair{"one", ExportOptions{}},
                                      {"parts", ExportOptions{.shard_bytes = 300'000}},
                                      {"own", ExportOptions{.format = ExportFormat::own}}}) {
    const ExportResult r = export_to(dir / name, options);
    EXPECT_EQ(r.parameters, parameter_count(wide_run().model));
    EXPECT_EQ(fs::exists(dir / name / "model.safetensors.index.json"), std::string(name) == "parts");
    EXPECT_EQ(fs::exists(dir / name / "config.json"), std::string(name) != "own");
    const ImportResult back = import_model(dir / name, {.run = dir / (std::string(name) + "_run")});
    EXPECT_EQ(back.weights_sha256, sha) << name;
    EXPECT_EQ(open_newest_checkpoint(back.checkpoint).weights_sha256(), sha) << name;
  }
  EXPECT_EQ(SafetensorsFile(dir / "one/model.safetensors").find("embedding.weight"), nullptr);
  EXPECT_EQ(
      SafetensorsFile(dir / "one/model.safetensors").find("backbone.blocks.0.mlstm_layer.igate_preact.bias")->shape,
      (std::vector<i64>{2}));
  EXPECT_NE(SafetensorsFile(dir / "own/model.safetensors").find("embedding.weight"), nullptr);
}

TEST_F(ModelExchange, Bf16IsRoundedOnceAndComesBackAsIs) {
  export_to(dir / "narrow", {.dtype = DType::bf16});
  const ImportResult back = import_model(dir / "narrow", {.run = dir / "run"});
  export_to(dir / "wide");
  const SafetensorsFile wide(dir / "wide/model.safetensors");
  const CheckpointReader read = open_newest_checkpoint(back.checkpoint);
  const std::string name = "lm_head.weight";
  Tensors a, b;
  const Tensor exact = a.add(name, DType::f32, wide.find(name)->shape[0], 128);
  const Tensor rounded = b.add(name, DType::f32, exact.rows, 128);
  wide.read_into(exact, name);
  for (const StoredTensor& t : read.params())
    if (t.entry->name == name) t.file->read_into(rounded, name);
  for (i64 i = 0; i < exact.size(); ++i) {
    const float x = exact.row<float>()[i], y = rounded.row<float>()[i];
    ASSERT_LE(std::abs(x - y), std::abs(x) / 256) << i;
    ASSERT_EQ(to_float(to_bf16(x)), y) << i;
  }
}

TEST_F(ModelExchange, TheSigmoidGateHasOurLayoutAlone) {
  try {
    export_to(dir / "hf", {.format = ExportFormat::hf}, InputGate::sigmoid);
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("sigmoid input gate"), HasSubstr("--format xlstm")));
  }
  EXPECT_FALSE(fs::exists(dir / "hf"));
  const ExportResult r = export_to(dir / "own", {}, InputGate::sigmoid);
  EXPECT_EQ(r.format, ExportFormat::own);
  EXPECT_THAT(r.why_own, HasSubstr("sigmoid"));
  const ImportResult back = import_model(dir / "own", {.run = dir / "run"});
  EXPECT_EQ(back.config.model.mixer.input_gate, InputGate::sigmoid);
  EXPECT_EQ(back.weights_sha256, open_newest_checkpoint(trained(InputGate::sigmoid)).weights_sha256());
}

TEST_F(ModelExchange, TrainingGoesOnFromImportedWeights) {
  export_to(dir / "hf");
  TrainConfig cfg = wide_run();
  const ImportResult r = import_model(dir / "hf", {.run = dir / "run", .training = cfg});
  Trainer trainer(dir / "run", cfg, {"test"});
  EXPECT_EQ(weights_sha256(trainer.state().named_params()), r.weights_sha256);
  EXPECT_EQ(trainer.run(2), RunOutcome::stopped);
  cfg.model.mixer.num_heads = 4;
  EXPECT_THAT(refused(dir / "hf", {.training = cfg}), HasSubstr("model.mixer.num_heads: is 4"));
}

TEST_F(ModelExchange, FaultsAreNamedByTensor) {
  export_to(dir / "hf");
  const fs::path file = dir / "hf/model.safetensors";
  const std::string name = "backbone.blocks.1.ffn.proj_up.weight", whole = read_file(file);
  const auto restore = [&] { write_file_atomically(file, whole); };

  std::string bytes = whole;
  bytes[static_cast<std::size_t>(SafetensorsFile(file).find(name)->offset) + 1000] ^= 1;
  write_file_atomically(file, bytes);
  EXPECT_THAT(refused(dir / "hf"), AllOf(HasSubstr("model.safetensors"), HasSubstr(name), HasSubstr("damaged")));

  restore();
  rewrite(file, [&](auto& list) { std::erase_if(list, [&](const NamedTensor& t) { return t.name == name; }); });
  EXPECT_THAT(refused(dir / "hf"), AllOf(HasSubstr("expected a tensor"), HasSubstr(name)));

  restore();
  rewrite(file, [&](auto& list) { list[0].name = "backbone.more"; });
  EXPECT_NE(refused(dir / "hf"), "");
  restore();
  Tensors more;
  rewrite(file, [&](auto& list) {
    more.add("backbone.more", DType::f32, 1, 2);
    list.push_back(more.list[0]);
  });
  EXPECT_THAT(refused(dir / "hf"), AllOf(HasSubstr("backbone.more"), HasSubstr("no such tensor")));

  restore();
  rewrite(file, [&](auto& list) {
    for (NamedTensor& t : list)
      if (t.name == name) t.value.row<float>()[5] = INFINITY;
  });
  EXPECT_THAT(refused(dir / "hf"), AllOf(HasSubstr(name), HasSubstr("value 5 is inf")));

  restore();
  rewrite(file, [&](auto& list) {
    for (NamedTensor& t : list)
      if (t.name == name) t.value = t.value.flat(), t.is_matrix = false;
  });
  EXPECT_THAT(refused(dir / "hf"), AllOf(HasSubstr(name), HasSubstr("expected [")));

  write_file_atomically(file, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(refused(dir / "hf"), HasSubstr("to the end of the file"));
  write_file_atomically(file, "PK\x03\x04 something else altogether");
  EXPECT_THAT(refused(dir / "hf"), HasSubstr("not a safetensors file"));
  fs::remove(file);
  EXPECT_THAT(refused(dir / "hf"), HasSubstr("found neither"));
}

TEST_F(ModelExchange, AnIndexThatLies) {
  export_to(dir / "hf", {.shard_bytes = 300'000});
  const fs::path index = dir / "hf/model.safetensors.index.json";
  const Json good = read_json(index);
  const auto with = [&](const std::string& file) {
    Json json = good;
    json["weight_map"]["lm_head.weight"] = file;
    write_file_atomically(index, json.dump());
    return refused(dir / "hf");
  };
  EXPECT_THAT(with("model-00001-of-00009.safetensors"), HasSubstr("model-00001-of-00009.safetensors"));
  EXPECT_THAT(with("../model.safetensors"), AllOf(HasSubstr("lm_head.weight"), HasSubstr("a file beside it")));
  const std::string first = good["weight_map"]["backbone.embeddings.weight"];
  ASSERT_NE(first, good["weight_map"]["lm_head.weight"].get<std::string>());
  EXPECT_THAT(with(first), AllOf(HasSubstr("lm_head.weight"), HasSubstr("expected in " + first)));
  write_file_atomically(index, "{}");
  EXPECT_THAT(refused(dir / "hf"), HasSubstr("weight_map"));
}

TEST_F(ModelExchange, NothingIsOverwrittenAndNothingHalfWrittenStays) {
  export_to(dir / "hf");
  EXPECT_THROW(export_to(dir / "hf"), UserError);
  const std::vector<std::string> calls{"write", "fsync", "rename"};
  for (const std::string& call : calls) {
    const HookScope full([&](const char* now) { return now == call ? ENOSPC : 0; });
    EXPECT_THROW(export_to(dir / "full"), UserError) << call;
    EXPECT_THROW(import_model(dir / "hf", {.run = dir / "run"}), UserError) << call;
    EXPECT_FALSE(fs::exists(dir / "full") || fs::exists(dir / "full.partial") || fs::exists(dir / "run")) << call;
  }
  fs::remove(dir / "hf/tokenizer.model");
  EXPECT_THAT(refused(dir / "hf"), HasSubstr("--tokenizer"));
  EXPECT_THAT(refused(dir), HasSubstr("expected config.json"));
}

TEST_F(ModelExchange, CheckLogitsAreThoseOfOnePass) {
  constexpr i64 kTokens = 20;
  const LoadedModel& loaded = loaded_model();
  write_check_logits(loaded.folder(), dir / "check.safetensors", kTokens);
  const SafetensorsFile file(dir / "check.safetensors");
  Tensors t;
  const Tensor ids = t.add("ids", DType::i32, 1, kTokens);
  const Tensor logits = t.add("logits", DType::f32, kTokens, loaded.model().cfg.vocab_size);
  file.read_into(ids, "ids");
  file.read_into(logits, "logits");
  std::vector<int> so_far;
  for (i64 i = 0; i < kTokens; ++i) {
    so_far.push_back(ids.row<std::int32_t>()[i]);
    const std::vector<float> expected = logits_after(loaded, so_far);
    for (i64 c = 0; c < logits.cols; ++c)
      ASSERT_NEAR(logits.row<float>(i)[c], expected[static_cast<std::size_t>(c)], 2e-4) << i;
  }
}

}  // namespace
}  // namespace xlstm
