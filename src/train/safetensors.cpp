#include "train/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>

#include "core/hash.h"
#include "core/json.h"

namespace xlstm {

namespace {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

constexpr i64 kLengthBytes = 8;
constexpr i64 kMaxHeader = 100'000'000;  // the limit of the format's own implementation
constexpr i64 kPiece = 1 << 20;          // small enough to be hashed and written while it is in the cache

const char* format_name(DType t) {
  switch (t) {
    case DType::f32: return "F32";
    case DType::f64: return "F64";
    case DType::bf16: return "BF16";
    case DType::i32: return "I32";
  }
  return "?";
}

std::optional<DType> dtype_named(std::string_view name) {
  for (const DType t : {DType::f32, DType::f64, DType::bf16, DType::i32})
    if (name == format_name(t)) return t;
  return std::nullopt;
}

// What comes from a file must not break a one-line message: names are quoted as JSON, and all is cut.
std::string brief(const std::string& text) {
  constexpr std::size_t kMost = 200;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}
std::string quoted(const std::string& name) { return brief(Json(name).dump()); }

template <class... Args>
UserError bad_file(const fs::path& path, fmt::format_string<Args...> format, Args&&... args) {
  return user_error("{}: {}; the file is damaged, or not a safetensors file", path.string(),
                    fmt::format(format, std::forward<Args>(args)...));
}

// visit(data, bytes) over the values in order: a dense tensor is one run, any other has one per row.
template <class F>
void for_each_run(const Tensor& t, F&& visit) {
  const i64 rows = t.dense() ? 1 : t.rows;
  const i64 bytes = t.bytes() / std::max<i64>(rows, 1);
  for (i64 r = 0; r < rows; ++r)
    for (i64 at = 0; at < bytes; at += kPiece)
      visit(t.data + r * t.row_stride * size_of(t.dtype) + at, std::min(kPiece, bytes - at));
}

std::string header_of(std::span<const NamedTensor> tensors, const std::vector<std::size_t>& order,
                      const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  i64 offset = 0;
  for (const std::size_t i : order) {
    const auto& [name, value, is_matrix] = tensors[i];
    XL_CHECK(name != "__metadata__" && !header.contains(name), "the name '{}' cannot be used twice", name);
    header[name] = {{"dtype", format_name(value.dtype)},
                    {"shape", stored_shape(tensors[i])},
                    {"data_offsets", {offset, offset + value.bytes()}}};
    offset += value.bytes();
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

// A JSON object in which no key stands twice. Otherwise `why` tells what the text is.
nlohmann::json parse_strictly(const std::string& text, std::string& why) {
  std::vector<std::set<std::string>> keys;  // by depth
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (depth > 3) throw user_error("lists and objects in too deep a nest");
    if (event == nlohmann::json::parse_event_t::object_start) {
      keys.resize(static_cast<std::size_t>(depth) + 1);
      keys.back().clear();
    } else if (event == nlohmann::json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!keys.at(static_cast<std::size_t>(depth) - 1).insert(name).second)
        throw user_error("the key {} twice", quoted(name));
    }
    return true;
  };
  if (!text.starts_with('{')) return why = fmt::format("no '{{' at byte {}", kLengthBytes), nullptr;
  try {
    return nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::parse_error& e) {
    why = fmt::format("no valid JSON at byte {}", kLengthBytes + static_cast<i64>(e.byte) - 1);
  } catch (const nlohmann::json::exception& e) {
    why = fmt::format("no valid JSON ({})", e.what());
  } catch (const UserError& e) {
    why = e.what();
  }
  return nullptr;
}

bool is_size(const nlohmann::json& v) {
  return v.is_number_unsigned() && v.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
}

// One tensor of the header; offsets still count from the first value of the file.
SafetensorsEntry parse_entry(const fs::path& path, const std::string& name, const nlohmann::json& v) {
  const auto need = [&](bool good, const char* what) {
    if (!good) throw bad_file(path, "tensor {}: expected {}, found {}", quoted(name), what, brief(v.dump()));
  };
  need(v.is_object() && v.size() == 3 && v.contains("dtype") && v.contains("shape") && v.contains("data_offsets"),
       "the fields dtype, shape and data_offsets");
  const auto &dtype = v["dtype"], &shape = v["shape"], &offsets = v["data_offsets"];
  need(dtype.is_string() && dtype_named(dtype.get_ref<const std::string&>()), "a dtype of F32, F64, BF16 or I32");
  need(shape.is_array() && std::all_of(shape.begin(), shape.end(), is_size), "a shape of sizes");
  need(offsets.is_array() && offsets.size() == 2 && is_size(offsets[0]) && is_size(offsets[1]) &&
           offsets[0] <= offsets[1],
       "two offsets in order");

  SafetensorsEntry entry{.name = name, .dtype = *dtype_named(dtype.get<std::string>()), .shape = shape};
  i64 bytes = size_of(entry.dtype);
  bool fits = true;
  for (const i64 n : entry.shape) fits = fits && !__builtin_mul_overflow(bytes, n, &bytes);
  entry.offset = offsets[0].get<i64>();
  entry.bytes = offsets[1].get<i64>() - entry.offset;
  if (!fits || bytes != entry.bytes)
    throw bad_file(path, "tensor {}: expected {} bytes for {} {}, found {} between its offsets", quoted(name),
                   fits ? std::to_string(bytes) : "too many", name_of(entry.dtype), text_of_shape(entry.shape),
                   entry.bytes);
  return entry;
}

}  // namespace

std::vector<i64> stored_shape(const NamedTensor& t) {
  const auto& [rows, cols] = std::pair(t.value.rows, t.value.cols);
  return rows == 1 && !t.is_matrix ? std::vector<i64>{cols} : std::vector<i64>{rows, cols};
}

bool shape_fits(const std::vector<i64>& stored, const Tensor& t) {
  return stored == std::vector<i64>{t.rows, t.cols} || (t.rows == 1 && stored == std::vector<i64>{t.cols});
}

std::string text_of_shape(const std::vector<i64>& shape) {
  std::string text;
  for (const i64 n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "[" + text + "]";
}

namespace {

std::vector<std::size_t> order_in_file(std::span<const NamedTensor> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return size_of(tensors[a].value.dtype) > size_of(tensors[b].value.dtype);
  });
  return order;
}

}  // namespace

SafetensorsLayout layout_safetensors(std::span<const NamedTensor> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  const std::vector<std::size_t> order = order_in_file(tensors);
  const std::string text = header_of(tensors, order, metadata);
  const auto length = static_cast<std::uint64_t>(text.size());
  SafetensorsLayout layout{.header = std::string(reinterpret_cast<const char*>(&length), sizeof length) + text,
                           .offsets = std::vector<i64>(tensors.size())};
  layout.bytes = static_cast<i64>(layout.header.size());
  for (const std::size_t i : order) {
    layout.offsets[i] = layout.bytes;
    layout.bytes += tensors[i].value.bytes();
  }
  return layout;
}

WrittenTensors write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                                 const std::map<std::string, std::string>& metadata) {
  const std::string header = layout_safetensors(tensors, metadata).header;
  WrittenTensors written{.bytes = static_cast<i64>(header.size()),
                         .header_xxh3 = xxh3_hex(header.data(), header.size()),
                         .xxh3 = std::vector<std::string>(tensors.size())};
  OutputFile out(path);
  out.write(header);
  for (const std::size_t i : order_in_file(tensors)) {
    XL_CHECK(tensors[i].value.device == Device::cpu, "'{}' must be in host memory", tensors[i].name);
    Xxh3 hash;
    for_each_run(tensors[i].value, [&](const std::byte* data, i64 bytes) {
      hash.update(data, static_cast<std::size_t>(bytes));
      out.write(data, static_cast<std::size_t>(bytes));
    });
    written.xxh3[i] = hash.hex();
    written.bytes += tensors[i].value.bytes();
  }
  out.close();
  return written;
}

SafetensorsFile::SafetensorsFile(fs::path path) : file_(std::move(path)) {
  const fs::path& name = file_.path();
  if (bytes() < kLengthBytes + 2)
    throw bad_file(name, "expected a header of 10 bytes at least, found {} bytes in all", bytes());
  std::uint64_t length = 0;
  file_.read(0, &length, kLengthBytes);
  const i64 limit = std::min(kMaxHeader, bytes() - kLengthBytes);
  if (length > static_cast<std::uint64_t>(limit))
    throw bad_file(name, "expected a header of {} bytes at most, found a length of {} at byte 0", limit, length);

  std::string header(static_cast<std::size_t>(kLengthBytes) + length, '\0');
  file_.read(0, header.data(), static_cast<i64>(header.size()));
  header_xxh3_ = xxh3_hex(header.data(), header.size());
  parse_header(header.substr(kLengthBytes), static_cast<i64>(header.size()));
  check_cover(static_cast<i64>(header.size()));
}

void SafetensorsFile::parse_header(const std::string& text, i64 data_offset) {
  std::string why;
  const auto header = parse_strictly(text, why);
  if (!why.empty()) throw bad_file(path(), "expected a JSON object as header, found {}", why);
  for (const auto& [name, v] : header.items()) {
    if (name != "__metadata__") {
      entries_.push_back(parse_entry(path(), name, v));
      continue;
    }
    if (!v.is_object() || !std::all_of(v.begin(), v.end(), [](const auto& x) { return x.is_string(); }))
      throw bad_file(path(), "expected texts by name in __metadata__, found {}", brief(v.dump()));
    metadata_ = v.get<std::map<std::string, std::string>>();
  }
  std::stable_sort(entries_.begin(), entries_.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    by_name_[entries_[i].name] = i;
    if (__builtin_add_overflow(entries_[i].offset, data_offset, &entries_[i].offset)) entries_[i].offset = INT64_MAX;
  }
}

// The values of the tensors, one behind the other, are all that follows the header.
void SafetensorsFile::check_cover(i64 data_offset) {
  i64 at = data_offset;
  for (const SafetensorsEntry& e : entries_) {
    if (e.offset != at)
      throw bad_file(path(), "tensor {}: expected its values at byte {}, found them at {}", quoted(e.name), at,
                     e.offset);
    if (e.bytes > bytes() - at)
      throw bad_file(path(), "tensor {}: expected {} bytes from byte {}, found {} to the end of the file",
                     quoted(e.name), e.bytes, at, bytes() - at);
    at += e.bytes;
  }
  if (at != bytes()) throw bad_file(path(), "expected the end of the file at byte {}, found it at {}", at, bytes());
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

std::string SafetensorsFile::read_into(Tensor out, const std::string& name) const {
  const SafetensorsEntry* entry = find(name);
  if (!entry) throw user_error("{}: expected a tensor {}, found none", path().string(), quoted(name));
  if (entry->dtype != out.dtype || !shape_fits(entry->shape, out))
    throw user_error("{}: tensor {}: expected {} {}, found {} {}", path().string(), quoted(name), name_of(out.dtype),
                     text_of_shape({out.rows, out.cols}), name_of(entry->dtype), text_of_shape(entry->shape));
  Xxh3 hash;
  i64 at = entry->offset;
  for_each_run(out, [&](std::byte* data, i64 bytes) {
    file_.read(at, data, bytes);
    hash.update(data, static_cast<std::size_t>(bytes));
    at += bytes;
  });
  return hash.hex();
}

void SafetensorsFile::read(void* out, const SafetensorsEntry& entry, i64 offset, i64 bytes) const {
  XL_CHECK(0 <= offset && 0 <= bytes && bytes <= entry.bytes - offset, "[{}, +{}) of {} bytes of '{}'", offset, bytes,
           entry.bytes, entry.name);
  file_.read(entry.offset + offset, out, bytes);
}

void SafetensorsFile::for_each_piece(const SafetensorsEntry& entry,
                                     const std::function<void(std::span<const std::byte>)>& visit) const {
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min(kPiece, entry.bytes)));
  for (i64 at = 0; at < entry.bytes; at += kPiece) {
    const i64 bytes = std::min(kPiece, entry.bytes - at);
    read(piece.data(), entry, at, bytes);
    visit({piece.data(), static_cast<std::size_t>(bytes)});
  }
}

}  // namespace xlstm
