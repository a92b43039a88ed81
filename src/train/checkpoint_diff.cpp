#include "train/checkpoint_diff.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "core/config.h"
#include "core/json.h"

namespace xlstm {

namespace {

std::string describe(const StoredTensor& t) {
  return fmt::format("{} {}", name_of(t.entry->dtype), text_of_shape(t.entry->shape));
}

double value_at(const std::byte* values, i64 i, DType dtype) {
  const auto load = [&]<class T>(T v) {
    std::memcpy(&v, values + i * static_cast<i64>(sizeof v), sizeof v);
    return v;
  };
  switch (dtype) {
    case DType::f32: return load(float{});
    case DType::f64: return load(double{});
    case DType::i32: return load(std::int32_t{});
    case DType::bf16: return std::bit_cast<float>(std::uint32_t{load(std::uint16_t{})} << 16);
  }
  return 0;
}

TensorDifference compare_values(const StoredTensor& a, const StoredTensor& b) {
  TensorDifference d{a.entry->name, "values", describe(a), describe(b)};
  const DType dtype = a.entry->dtype;
  const i64 width = size_of(dtype);
  double largest = 0;
  std::vector<std::byte> other;
  i64 offset = 0;
  a.file->for_each_piece(*a.entry, [&](std::span<const std::byte> piece) {
    other.resize(piece.size());
    const auto bytes = static_cast<i64>(piece.size());
    b.file->read(other.data(), *b.entry, offset, bytes);
    offset += bytes;
    for (i64 i = 0; i < bytes / width; ++i) {
      const double x = value_at(piece.data(), i, dtype), y = value_at(other.data(), i, dtype);
      for (const double v : {x, y})
        if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
      if (std::memcmp(piece.data() + i * width, other.data() + i * width, static_cast<std::size_t>(width)) == 0)
        continue;
      ++d.different_values;
      const bool both_nan = std::isnan(x) && std::isnan(y);
      const double difference = std::abs(x - y);
      d.max_abs = std::max(d.max_abs, both_nan                 ? 0
                                      : std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                                               : difference);
    }
  });
  d.max_rel = d.max_abs == 0 ? 0 : d.max_abs / largest;
  return d;
}

std::vector<TensorDifference> compare(const std::vector<StoredTensor>& a, const std::vector<StoredTensor>& b,
                                      i64& compared) {
  std::map<std::string, const StoredTensor*> left;
  for (const StoredTensor& t : b) left[t.entry->name] = &t;
  std::vector<TensorDifference> differences;
  for (const StoredTensor& t : a) {
    const auto it = left.find(t.entry->name);
    if (it == left.end()) {
      differences.push_back({t.entry->name, "only in A", describe(t), ""});
      continue;
    }
    const StoredTensor& other = *it->second;
    left.erase(it);
    ++compared;
    if (describe(t) != describe(other))
      differences.push_back({t.entry->name, "shape or type", describe(t), describe(other)});
    else if (t.xxh3 != other.xxh3)
      differences.push_back(compare_values(t, other));
  }
  for (const auto& [name, t] : left) differences.push_back({name, "only in B", "", describe(*t)});
  return differences;
}

// "key x and y" of the keys that differ; "" where one has none.
std::vector<std::string> compare_configs(const std::string& a, const std::string& b) {
  const auto left = ConfigTree::from_text(a, "A").values, right = ConfigTree::from_text(b, "B").values;
  std::map<std::string, std::pair<std::string, std::string>> both;
  for (const auto& [key, value] : left) both[key].first = value.text;
  for (const auto& [key, value] : right) both[key].second = value.text;
  std::vector<std::string> differences;
  for (const auto& [key, values] : both)
    if (values.first != values.second)
      differences.push_back(fmt::format("config: {} {} and {}", key, values.first, values.second));
  return differences;
}

std::vector<std::string> compare_states(const Json& a, const Json& b) {
  std::map<std::string, std::pair<Json, Json>> both;
  for (const auto& [key, value] : a.items()) both[key].first = value;
  for (const auto& [key, value] : b.items()) both[key].second = value;
  std::vector<std::string> differences;
  for (const auto& [key, values] : both) {
    if (values.first == values.second) continue;
    if (key == "config" && values.first.is_string() && values.second.is_string())
      for (std::string& difference : compare_configs(values.first.get<std::string>(), values.second.get<std::string>()))
        differences.push_back(std::move(difference));
    else
      differences.push_back(fmt::format("{}: {} and {}", key, to_text(values.first), to_text(values.second)));
  }
  return differences;
}

}  // namespace

CheckpointDifference compare_checkpoints(const CheckpointReader& a, const CheckpointReader& b) {
  CheckpointDifference d;
  d.params = compare(a.params(), b.params(), d.params_compared);
  d.optimizer = compare(a.optimizer(), b.optimizer(), d.optimizer_compared);
  d.same_step = a.step() == b.step();
  d.state = compare_states(a.state(), b.state());
  return d;
}

}  // namespace xlstm
