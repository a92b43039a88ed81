#include "train/checkpoint.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/hash.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

constexpr const char* kFormat = "xlstm checkpoint";
constexpr int kVersion = 1;
constexpr const char* kStateFile = "state.json";

template <class... Args>
DamagedCheckpoint damaged(const fs::path& file, fmt::format_string<Args...> format, Args&&... args) {
  return DamagedCheckpoint(fmt::format("{}: {}; the checkpoint is damaged", file.string(),
                                       fmt::format(format, std::forward<Args>(args)...)));
}

// Whatever goes wrong with a file of a checkpoint makes it a damaged checkpoint.
template <class F>
auto reading(F&& body) {
  try {
    return body();
  } catch (const DamagedCheckpoint&) {
    throw;
  } catch (const UserError& e) {
    throw DamagedCheckpoint(e.what());
  }
}

template <class T>
T load(const std::byte* values, std::size_t i) {
  T v;
  std::memcpy(&v, values + i * sizeof v, sizeof v);
  return v;
}

float as_float(const std::byte* values, std::size_t i, DType dtype) {
  switch (dtype) {
    case DType::f32: return load<float>(values, i);
    case DType::f64: return static_cast<float>(load<double>(values, i));
    case DType::i32: return static_cast<float>(load<std::int32_t>(values, i));
    case DType::bf16: return std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(values, i)} << 16);
  }
  return 0;
}

Json tensors_json(std::span<const NamedTensor> tensors, const char* file, const WrittenTensors& written) {
  Json list = Json::array();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    list.push_back({{"name", tensors[i].name},
                    {"dtype", name_of(tensors[i].value.dtype)},
                    {"shape", stored_shape(tensors[i])},
                    {"file", file},
                    {"xxh3", written.xxh3[i]}});
  return list;
}

}  // namespace

void WeightsHash::update(std::span<const std::byte> values, DType dtype) {
  if (dtype == DType::f32) return hash_.update(values.data(), values.size());
  const auto n = values.size() / static_cast<std::size_t>(size_of(dtype));
  for (std::size_t at = 0; at < n; at += buffer_.size()) {
    const std::size_t count = std::min(buffer_.size(), n - at);
    for (std::size_t i = 0; i < count; ++i) buffer_[i] = as_float(values.data(), at + i, dtype);
    hash_.update(buffer_.data(), count * sizeof(float));
  }
}

std::string weights_sha256(std::span<const NamedTensor> params) {
  std::vector<const NamedTensor*> sorted;
  for (const NamedTensor& p : params) sorted.push_back(&p);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  WeightsHash hash;
  for (const NamedTensor* p : sorted) {
    const Tensor t = p->value.dense() ? p->value.flat() : p->value;
    for (i64 r = 0; r < t.rows; ++r)
      hash.update({t.data + r * t.row_stride * size_of(t.dtype), static_cast<std::size_t>(t.cols * size_of(t.dtype))},
                  t.dtype);
  }
  return hash.hex();
}

std::map<std::string, std::string> file_metadata(const CheckpointContent& content) {
  return {{"format", "pt"}, {"step", std::to_string(content.step)}};
}

i64 write_checkpoint(const fs::path& folder, const CheckpointContent& content) {
  const auto metadata = file_metadata(content);
  const WrittenTensors params = write_safetensors(folder / kParamsFile, content.params, metadata);
  const WrittenTensors optimizer = write_safetensors(folder / kOptimizerFile, content.optimizer, metadata);
  return write_manifest(folder, content, params, optimizer, weights_sha256(content.params));
}

i64 write_manifest(const fs::path& folder, const CheckpointContent& content, const WrittenTensors& params,
                   const WrittenTensors& optimizer, const std::string& weights_sha256) {
  Json files = Json::array();
  const auto add = [&](const char* file, const WrittenTensors& written) {
    files.push_back({{"name", file}, {"bytes", written.bytes}, {"header_xxh3", written.header_xxh3}});
  };
  add(kParamsFile, params);
  add(kOptimizerFile, optimizer);
  const std::string state = to_text(content.state, 1) + "\n";
  OutputFile state_file(folder / kStateFile);
  state_file.write(state);
  state_file.close();

  i64 parameters = 0;
  for (const NamedTensor& p : content.params) parameters += p.value.size();
  const std::string manifest =
      sealed({{"format", kFormat},
              {"version", kVersion},
              {"program", program_version()},
              {"step", content.step},
              {"parameters", parameters},
              {"weights_sha256", weights_sha256},
              {"files", files},
              {"state", {{"file", kStateFile}, {"xxh3", xxh3_hex(state.data(), state.size())}}},
              {"params", tensors_json(content.params, kParamsFile, params)},
              {"optimizer", tensors_json(content.optimizer, kOptimizerFile, optimizer)}});
  OutputFile manifest_file(folder / "manifest.json");
  manifest_file.write(manifest);
  manifest_file.close();
  fsync_directory(folder);
  return params.bytes + optimizer.bytes + static_cast<i64>(state.size() + manifest.size());
}

CheckpointReader::CheckpointReader(fs::path folder) : folder_(std::move(folder)) {
  const fs::path manifest_path = folder_ / "manifest.json";
  const Json manifest = reading([&] { return open_manifest(); });
  if (const int version = json_field<int>(manifest, "version", manifest_path); version != kVersion)
    throw user_error("{}: format version {} is not the {} that this program reads; use the program that wrote it ({})",
                     manifest_path.string(), version, kVersion,
                     json_field<std::string>(manifest, "program", manifest_path));
  reading([&] {
    step_ = json_field<i64>(manifest, "step", manifest_path);
    parameters_ = json_field<i64>(manifest, "parameters", manifest_path);
    weights_sha256_ = json_field<std::string>(manifest, "weights_sha256", manifest_path);
    program_ = json_field<std::string>(manifest, "program", manifest_path);
    for (const Json& file : json_field<Json>(manifest, "files", manifest_path)) {
      const auto name = json_field<std::string>(file, "name", manifest_path);
      if (fs::path(name).filename() != name) throw damaged(manifest_path, "'{}' is not a name within the folder", name);
      auto opened = std::make_unique<SafetensorsFile>(folder_ / name);
      const auto bytes = json_field<i64>(file, "bytes", manifest_path);
      if (opened->bytes() != bytes)
        throw damaged(opened->path(), "expected {} bytes, found {}", bytes, opened->bytes());
      const auto header = json_field<std::string>(file, "header_xxh3", manifest_path);
      if (opened->header_xxh3() != header)
        throw damaged(opened->path(), "header: expected xxh3 {}, found {}", header, opened->header_xxh3());
      files_[name] = std::move(opened);
    }
    open_state(json_field<Json>(manifest, "state", manifest_path));
    params_ = open_tensors(json_field<Json>(manifest, "params", manifest_path));
    optimizer_ = open_tensors(json_field<Json>(manifest, "optimizer", manifest_path));
  });
}

Json CheckpointReader::open_manifest() {
  const fs::path path = folder_ / "manifest.json";
  const std::string text = read_file(path);
  other_bytes_ += static_cast<i64>(text.size());
  Json manifest = unsealed(text);
  if (manifest.is_null()) throw damaged(path, "expected a text that fits its checksum, found another");
  if (manifest.value("format", Json()) != kFormat)
    throw damaged(path, "expected a manifest of format '{}', found something else", kFormat);
  return manifest;
}

void CheckpointReader::open_state(const Json& entry) {
  const fs::path path = folder_ / kStateFile;
  const std::string text = read_file(path);
  other_bytes_ += static_cast<i64>(text.size());
  const auto expected = json_field<std::string>(entry, "xxh3", folder_ / "manifest.json");
  if (const std::string found = xxh3_hex(text.data(), text.size()); found != expected)
    throw damaged(path, "expected xxh3 {}, found {}", expected, found);
  state_ = Json::parse(text);
}

std::vector<StoredTensor> CheckpointReader::open_tensors(const Json& list) {
  const fs::path path = folder_ / "manifest.json";
  std::vector<StoredTensor> tensors;
  for (const Json& t : list) {
    const auto name = json_field<std::string>(t, "name", path), file_name = json_field<std::string>(t, "file", path);
    const auto dtype = json_field<std::string>(t, "dtype", path);
    const auto shape = json_field<std::vector<i64>>(t, "shape", path);
    const auto file = files_.find(file_name);
    if (file == files_.end()) throw damaged(path, "tensor '{}': expected '{}' among the files", name, file_name);
    const SafetensorsEntry* entry = file->second->find(name);
    if (!entry || name_of(entry->dtype) != dtype || entry->shape != shape)
      throw damaged(file->second->path(), "tensor '{}': expected {} {}, found {}", name, dtype, text_of_shape(shape),
                    entry ? fmt::format("{} {}", name_of(entry->dtype), text_of_shape(entry->shape)) : "none");
    tensors.push_back({file->second.get(), entry, json_field<std::string>(t, "xxh3", path)});
  }
  return tensors;
}

i64 CheckpointReader::bytes() const {
  i64 bytes = other_bytes_;
  for (const auto& [name, file] : files_) bytes += file->bytes();
  return bytes;
}

std::vector<const StoredTensor*> CheckpointReader::match(std::span<const NamedTensor> like,
                                                         const std::vector<StoredTensor>& stored,
                                                         const char* what) const {
  std::map<std::string, const StoredTensor*> by_name;
  for (const StoredTensor& s : stored) by_name[s.entry->name] = &s;
  const auto refuse = [&](const std::string& why) {
    throw user_error("{}: {}; it is of another {}: use the config of its run, or another run directory",
                     folder_.string(), why, what);
  };
  std::vector<const StoredTensor*> sources;
  for (const NamedTensor& t : like) {
    const auto it = by_name.find(t.name);
    if (it == by_name.end()) refuse(fmt::format("expected a tensor '{}', found none", t.name));
    const SafetensorsEntry& e = *it->second->entry;
    if (e.dtype != t.value.dtype || !shape_fits(e.shape, t.value))
      refuse(fmt::format("tensor '{}': expected {} {}, found {} {}", t.name, name_of(t.value.dtype),
                         text_of_shape(stored_shape(t)), name_of(e.dtype), text_of_shape(e.shape)));
    sources.push_back(it->second);
    by_name.erase(it);
  }
  if (!by_name.empty()) refuse(fmt::format("found a tensor '{}', expected none", by_name.begin()->first));
  return sources;
}

void CheckpointReader::read(std::span<const NamedTensor> out, const std::vector<StoredTensor>& stored,
                            const char* what) const {
  const std::vector<const StoredTensor*> sources = match(out, stored, what);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const StoredTensor& source = *sources[i];
    const std::string found = reading([&] { return source.file->read_into(out[i].value, source.entry->name); });
    if (found != source.xxh3)
      throw damaged(source.file->path(), "tensor '{}': expected xxh3 {}, found {}", source.entry->name, source.xxh3,
                    found);
  }
}

void read_checked(const StoredTensor& t, const std::function<void(std::span<const std::byte>)>& visit) {
  Xxh3 hash;
  reading([&] {
    t.file->for_each_piece(*t.entry, [&](std::span<const std::byte> piece) {
      hash.update(piece.data(), piece.size());
      visit(piece);
    });
  });
  if (const std::string found = hash.hex(); found != t.xxh3)
    throw damaged(t.file->path(), "tensor '{}': expected xxh3 {}, found {}", t.entry->name, t.xxh3, found);
}

void CheckpointReader::verify() const {
  std::vector<StoredTensor> sorted = params_;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.entry->name < b.entry->name; });
  WeightsHash weights;
  for (const StoredTensor& t : sorted)
    read_checked(t, [&](std::span<const std::byte> piece) { weights.update(piece, t.entry->dtype); });
  if (const std::string found = weights.hex(); found != weights_sha256_)
    throw damaged(folder_, "expected weights_sha256 {}, found {}", weights_sha256_, found);
  for (const StoredTensor& t : optimizer_) read_checked(t, [](auto) {});
}

void CheckpointReader::forget_cached() const {
  for (const auto& [name, file] : files_) file->forget_cached();
}

}  // namespace xlstm
