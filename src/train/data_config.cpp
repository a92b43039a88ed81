// What the section `data` of a config says of training data.
#include <cctype>
#include <cmath>
#include <limits>

#include "core/file.h"
#include "data/interleaving.h"
#include "train/config.h"

namespace xlstm {

namespace {

constexpr std::size_t kMostSets = 1000;

// "data/Web-2/train/" -> "web-2"
std::string name_of_folder(const std::string& path) {
  std::string folder, parent;
  for (const fs::path& part : fs::path(path).lexically_normal())
    if (!part.empty()) parent = std::exchange(folder, part.string());
  std::string name = folder == "train" && !parent.empty() ? parent : folder;
  for (char& c : name) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (kNameCharacters.find(c) == kNameCharacters.npos) c = '_';
  }
  return name;
}

}  // namespace

std::vector<MixtureEntry> DataConfig::training_sets() const {
  if (mixture.empty()) return {{.path = train, .weight = 1, .name = "train"}};
  std::vector<MixtureEntry> sets = mixture;
  for (MixtureEntry& set : sets)
    if (set.name.empty()) set.name = name_of_folder(set.path);
  return sets;
}

std::string DataConfig::mixture_key(std::size_t set, const std::string& key) {
  return fmt::format("data.mixture.{}.{}", set, key);
}

std::string DataConfig::key_of_set(std::size_t set) const {
  return mixture.empty() ? "data.train" : mixture_key(set, "path");
}

void DataConfig::check() const {
  constexpr double kLeastWeight = 1e-100, kMostWeight = 1e100;  // sums and quotients are finite
  if (mixture.empty()) return;
  if (!train.empty()) throw user_error("data.mixture: data.train names data, too; take out one of the two");
  if (mixture.size() > kMostSets)
    throw user_error("data.mixture: has {} sets; at most {} are possible", mixture.size(), kMostSets);
  const std::vector<MixtureEntry> sets = training_sets();
  double sum = 0;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    if (sets[i].path.empty())
      throw user_error("{}: is empty; name a folder made by 'xlstm data build'", mixture_key(i, "path"));
    if (!(sets[i].weight >= kLeastWeight && sets[i].weight <= kMostWeight))
      throw user_error("{}: is {}; a positive number is expected, from {} to {}", mixture_key(i, "weight"),
                       sets[i].weight, kLeastWeight, kMostWeight);
    sum += sets[i].weight;
    if (!is_name(sets[i].name))
      throw user_error("{}: '{}' is no name; small letters, digits, - and _ are", mixture_key(i, "name"), sets[i].name);
    for (std::size_t j = 0; j < i; ++j)
      if (sets[j].name == sets[i].name)
        throw user_error("{}: '{}' names set {}, too; give one of them another", mixture_key(i, "name"), sets[i].name,
                         j);
  }
  for (std::size_t i = 0; i < sets.size(); ++i)
    if (sets[i].weight < sum * Interleaving::kLeastShare)
      throw user_error("{}: is {}, too small beside a sum of {}; the least is {:.3g}", mixture_key(i, "weight"),
                       sets[i].weight, sum, sum * Interleaving::kLeastShare);
}

bool names_data_folder(const std::string& key) {
  return key == "data.train" || key == "data.validation" || key.starts_with("eval.sets.") ||
         (key.starts_with("data.mixture.") && key.ends_with(".path"));
}

}  // namespace xlstm
