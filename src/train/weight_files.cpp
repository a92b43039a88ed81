#include "train/weight_files.h"

#include <cmath>
#include <cstring>

#include "core/bf16.h"
#include "core/hash.h"
#include "core/json.h"

namespace xlstm {

namespace {

float value_at(const std::byte* values, i64 i, DType dtype) {
  const auto load = [&]<class T>(T v) {
    std::memcpy(&v, values + i * static_cast<i64>(sizeof v), sizeof v);
    return v;
  };
  if (dtype == DType::bf16) return to_float(load(bf16{}));
  return dtype == DType::f64 ? static_cast<float>(load(double{})) : load(float{});
}

std::string name_in(const fs::path& path, const std::string& tensor) {
  return fmt::format("{}: tensor '{}'", path.string(), tensor);
}

}  // namespace

WeightFiles::WeightFiles(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  std::error_code ignored;
  if (fs::exists(index, ignored))
    follow_index(index);
  else if (fs::exists(single, ignored))
    open(single);
  else
    throw user_error("{}: expected model.safetensors or model.safetensors.index.json, found neither", folder.string());
}

void WeightFiles::open(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  for (const SafetensorsEntry& e : files_.back()->tensors()) {
    if (!file_of_.emplace(e.name, files_.back().get()).second)
      throw user_error("{}: it stands in {} already", name_in(path, e.name), file_of_[e.name]->path().string());
    unread_.insert(e.name);
  }
}

void WeightFiles::follow_index(const fs::path& index) {
  const auto map = json_field<std::map<std::string, std::string>>(read_json(index), "weight_map", index);
  std::set<std::string> names;
  for (const auto& [tensor, file] : map) {
    if (fs::path(file).filename() != file)
      throw user_error("{}: tensor '{}': expected the name of a file beside it, found '{}'", index.string(), tensor,
                       file);
    names.insert(file);
  }
  for (const std::string& name : names) open(index.parent_path() / name);
  for (const auto& [tensor, file] : map)
    if (const auto it = file_of_.find(tensor); it == file_of_.end() || it->second->path().filename() != file)
      throw user_error("{}: tensor '{}': expected in {}, found {}", index.string(), tensor, file,
                       it == file_of_.end() ? "nowhere" : "in " + it->second->path().filename().string());
}

void WeightFiles::read(Tensor out, const std::string& name) {
  const auto it = file_of_.find(name);
  if (it == file_of_.end())
    throw user_error("{}: expected a tensor '{}', found none", files_.front()->path().string(), name);
  const SafetensorsFile& file = *it->second;
  const SafetensorsEntry& e = *file.find(name);
  if (e.dtype == DType::i32 || !shape_fits(e.shape, out))
    throw user_error("{}: expected {} of f32, bf16 or f64, found {} {}", name_in(file.path(), name),
                     text_of_shape({out.rows, out.cols}), name_of(e.dtype), text_of_shape(e.shape));
  XL_CHECK(out.dense() && out.dtype == DType::f32, "f32 in one piece is needed");
  float* to = out.row<float>();
  i64 done = 0;
  Xxh3 hash;
  file.for_each_piece(e, [&](std::span<const std::byte> piece) {
    hash.update(piece.data(), piece.size());
    const i64 count = static_cast<i64>(piece.size()) / size_of(e.dtype);
    for (i64 i = 0; i < count; ++i) {
      to[done + i] = value_at(piece.data(), i, e.dtype);
      if (!std::isfinite(to[done + i]))
        throw user_error("{}: value {} is {}; finite ones are expected", name_in(file.path(), name), done + i,
                         to[done + i]);
    }
    done += count;
  });
  if (const auto kept = file.metadata().find("xxh3 " + name);
      kept != file.metadata().end() && kept->second != hash.hex())
    throw user_error("{}: expected xxh3 {}, found {}; the file is damaged", name_in(file.path(), name), kept->second,
                     hash.hex());
  unread_.erase(name);
}

void WeightFiles::expect_all_read() const {
  if (unread_.empty()) return;
  const std::string& name = *unread_.begin();
  throw user_error("{}: the model that the config describes has no such tensor ({} of them)",
                   name_in(file_of_.at(name)->path(), name), unread_.size());
}

}  // namespace xlstm
