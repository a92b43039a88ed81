#include "train/model_export.h"

#include "core/bf16.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/text.h"
#include "train/config.h"

namespace xlstm {

namespace {

TrainConfig config_of(const CheckpointReader& checkpoint) {
  const fs::path file = checkpoint.folder() / "state.json";
  return read_config<TrainConfig>(
      ConfigTree::from_text(json_field<std::string>(checkpoint.state(), "config", file), file.string()));
}

ExportFormat choose_format(const ModelConfig& cfg, ExportFormat wanted, std::string& why_own) {
  if (wanted == ExportFormat::own) return wanted;
  const auto why = why_not_hf(cfg);
  if (!why) return ExportFormat::hf;
  if (wanted == ExportFormat::hf)
    throw user_error("--format hf: that layout cannot say this model: {}; --format xlstm can", *why);
  why_own = *why;
  return ExportFormat::own;
}

void check_out(const fs::path& out) {
  std::error_code ignored;
  if (fs::exists(out, ignored) && !(fs::is_directory(out, ignored) && fs::is_empty(out, ignored)))
    throw user_error("--out {}: is there already; name a folder that is not", out.string());
}

// Values in memory, as they are to be written.
class ShardValues {
 public:
  ShardValues(std::span<const StoredTensor> stored, DType dtype) {
    i64 elements = 0, largest = 0;
    for (const StoredTensor& t : stored) {
      elements += elements_of(t);
      largest = std::max(largest, elements_of(t));
    }
    values_ = Buffer(std::max<i64>(elements * size_of(dtype), 1));
    if (dtype == DType::bf16) staging_ = Buffer(std::max<i64>(largest * size_of(DType::f32), 1));
    std::byte* at = values_.data();
    for (const StoredTensor& t : stored) {
      tensors_.push_back(read(t, dtype, at));
      at += tensors_.back().value.bytes();
    }
  }

  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  static i64 elements_of(const StoredTensor& t) { return t.entry->bytes / size_of(t.entry->dtype); }

 private:
  NamedTensor read(const StoredTensor& t, DType dtype, std::byte* at) const {
    const SafetensorsEntry& e = *t.entry;
    const bool matrix = e.shape.size() == 2;
    const i64 rows = matrix ? e.shape[0] : 1, cols = elements_of(t) / std::max<i64>(rows, 1);
    const Tensor read = make_tensor(dtype == DType::f32 ? at : staging_.data(), DType::f32, rows, cols);
    if (const std::string found = t.file->read_into(read, e.name); found != t.xxh3)
      throw DamagedCheckpoint(fmt::format("{}: tensor '{}': expected xxh3 {}, found {}; the checkpoint is damaged",
                                          t.file->path().string(), e.name, t.xxh3, found));
    const Tensor value = make_tensor(at, dtype, rows, cols);
    if (dtype == DType::bf16)
      for (i64 i = 0; i < read.size(); ++i) reinterpret_cast<bf16*>(value.data)[i] = to_bf16(read.row<float>()[i]);
    return {e.name, value, matrix};
  }

  Buffer values_, staging_;
  std::vector<NamedTensor> tensors_;
};

// Consecutive tensors of at most `limit` bytes together.
std::vector<std::span<const StoredTensor>> cut_into_shards(std::span<const StoredTensor> all, DType dtype, i64 limit) {
  std::vector<std::span<const StoredTensor>> shards;
  i64 bytes = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const i64 more = ShardValues::elements_of(all[i]) * size_of(dtype);
    if (i > begin && bytes + more > limit) {
      shards.push_back(all.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += more;
  }
  shards.push_back(all.subspan(begin));
  return shards;
}

class Exporter {
 public:
  Exporter(const CheckpointReader& checkpoint, const ExportOptions& o, const fs::path& folder, ExportResult& result)
      : checkpoint_(checkpoint), o_(o), folder_(folder), result_(result) {}

  void write_weights() {
    const auto shards = cut_into_shards(checkpoint_.params(), o_.dtype, o_.shard_bytes);
    Json map = Json::object();
    i64 total = 0;
    for (std::size_t s = 0; s < shards.size(); ++s) {
      const std::string file = shards.size() == 1
                                   ? "model.safetensors"
                                   : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
      total += write_shard(shards[s], file, map);
      if (shards.size() > 1) log_info("{} of {} written", s + 1, counted(static_cast<i64>(shards.size()), "file"));
    }
    if (shards.size() > 1)
      write_json("model.safetensors.index.json", {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
  }

  void write_config_files(const TrainConfig& cfg) {
    if (result_.format == ExportFormat::hf)
      write_json("config.json", hf_config(cfg.model, o_.dtype, o_.eod_id));
    else
      write("config.yaml", write_config(cfg));
    std::error_code ignored;
    if (fs::exists(o_.tokenizer, ignored)) write("tokenizer.model", read_file(o_.tokenizer));
  }

 private:
  i64 write_shard(std::span<const StoredTensor> stored, const std::string& file, Json& map) {
    const ShardValues values(stored, o_.dtype);
    std::vector<NamedTensor> tensors = values.tensors();
    std::map<std::string, std::string> metadata{{"format", "pt"}, {"step", std::to_string(checkpoint_.step())}};
    i64 bytes = 0;
    for (NamedTensor& t : tensors) {
      if (result_.format == ExportFormat::hf) t.name = hf_name(t.name);
      map[t.name] = file;
      metadata["xxh3 " + t.name] = xxh3_hex(t.value.data, static_cast<std::size_t>(t.value.bytes()));
      bytes += t.value.bytes();
      result_.parameters += t.value.size();
    }
    result_.tensors += static_cast<i64>(tensors.size());
    result_.bytes += write_safetensors(folder_ / file, tensors, metadata).bytes;
    result_.files.push_back(file);
    return bytes;
  }

  void write_json(const std::string& name, const Json& json) { write(name, json.dump(2) + "\n"); }

  void write(const std::string& name, const std::string& text) {
    write_file_atomically(folder_ / name, text);
    result_.bytes += static_cast<i64>(text.size());
    result_.files.push_back(name);
  }

  const CheckpointReader& checkpoint_;
  const ExportOptions& o_;
  const fs::path& folder_;
  ExportResult& result_;
};

}  // namespace

ExportResult export_checkpoint(const CheckpointReader& checkpoint, const ExportOptions& options) {
  TrainConfig cfg = config_of(checkpoint);
  cfg.resolve();
  ExportResult result{};
  result.format = choose_format(cfg.model, options.format, result.why_own);
  check_out(options.out);
  const fs::path aside = options.out.string() + ".partial";
  remove_tree(aside);
  make_directory(aside);
  try {
    Exporter exporter(checkpoint, options, aside, result);
    exporter.write_weights();
    exporter.write_config_files(cfg);
    fsync_directory(aside);
    remove_tree(options.out);  // empty
    rename_path(aside, options.out);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    throw;
  }
  return result;
}

}  // namespace xlstm
