#include "kernels/cuda/product_choice.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace xlstm {

namespace {

// The fields of a key under their names, for reading and writing.
template <class Key, class Visit>
void visit_key(Key& k, Visit&& v) {
  v("m", k.m), v("n", k.n), v("k", k.k);
  v("lda", k.lda), v("ldb", k.ldb), v("ldc", k.ldc), v("ldz", k.ldz);
  v("type_in", k.type_in), v("type_out", k.type_out);
  v("transpose_a", k.transpose_a), v("transpose_b", k.transpose_b), v("plus_z", k.plus_z), v("in_place", k.in_place);
  v("alignment_a", k.alignment_a), v("alignment_b", k.alignment_b);
  v("alignment_c", k.alignment_c), v("alignment_z", k.alignment_z);
}

Json to_json(const ProductKey& key, const ProductChoice& choice) {
  Json out = Json::object(), proposals = Json::array();
  visit_key(key, [&](const char* name, const auto& value) { out[name] = value; });
  for (const ProductProposal& p : choice.proposals) {
    Json one{{"algorithm", p.algorithm}, {"description", p.description}, {"seconds", p.seconds}};
    if (!std::isfinite(p.seconds)) one["seconds"] = nullptr;
    proposals.push_back(one);
  }
  out["taken"] = choice.taken;
  out["proposals"] = proposals;
  return out;
}

std::pair<ProductKey, ProductChoice> from_json(const Json& json) {
  ProductKey key{};
  visit_key(key, [&](const char* name, auto& value) { json.at(name).get_to(value); });
  ProductChoice choice{.taken = json.at("taken").get<std::size_t>(), .proposals = {}};
  for (const Json& p : json.at("proposals"))
    choice.proposals.push_back({p.at("algorithm").get<std::string>(), p.at("description").get<std::string>(),
                                p.at("seconds").is_null() ? INFINITY : p.at("seconds").get<double>()});
  if (choice.taken >= choice.proposals.size()) throw std::out_of_range("'taken' names no proposal");
  return {key, choice};
}

}  // namespace

ProductChoice choose_fastest(std::vector<ProductProposal> proposals,
                             const std::function<double(std::size_t)>& seconds_of) {
  constexpr int kRounds = 3;
  constexpr double kHopeless = 1.5, kFaster = 0.98;
  XL_CHECK(!proposals.empty(), "a choice among no algorithms");
  double best = INFINITY;
  for (int round = -1; round < kRounds; ++round) {
    for (std::size_t i = 0; i < proposals.size(); ++i) {
      double& seconds = proposals[i].seconds;
      if (round > 0 && seconds > kHopeless * best) continue;
      const double now = seconds_of(i);
      if (round < 0) continue;
      seconds = round == 0 ? now : std::min(seconds, now);
      best = std::min(best, seconds);
    }
  }
  ProductChoice choice{.taken = 0, .proposals = std::move(proposals)};
  for (std::size_t i = 1; i < choice.proposals.size(); ++i) {
    const double before = choice.algorithm().seconds, now = choice.proposals[i].seconds;
    if (std::isfinite(now) && (!std::isfinite(before) || now < kFaster * before)) choice.taken = i;
  }
  return choice;
}

std::string ProductChoices::take(const std::string& text) {
  std::string elsewhere;
  bool here = false;
  try {
    const Json all = Json::parse(text);
    for (const Json& set : all.at("choices")) {
      const auto device = set.at("device").get<std::string>(), library = set.at("library").get<std::string>();
      if (device != device_ || library != library_) {
        elsewhere += fmt::format("{}{} with {}", elsewhere.empty() ? "" : ", ", device, library);
        others_.push_back(set);
        continue;
      }
      here = true;
      for (const Json& product : set.at("products")) choices_.insert(from_json(product));
    }
  } catch (const std::exception& e) {
    throw user_error(
        "expected the algorithms of matrix products: {}; if the file was damaged, delete it: they are "
        "chosen anew, and the run goes on with other last digits",
        e.what());
  }
  return here ? "" : elsewhere;
}

const ProductChoice* ProductChoices::find(const ProductKey& key) const {
  const auto it = choices_.find(key);
  return it == choices_.end() ? nullptr : &it->second;
}

const ProductChoice& ProductChoices::add(const ProductKey& key, ProductChoice choice) {
  XL_CHECK(choice.taken < choice.proposals.size(), "a choice of none of {} proposals", choice.proposals.size());
  return choices_.insert_or_assign(key, std::move(choice)).first->second;
}

std::string ProductChoices::text() const {
  Json products = Json::array(), sets = others_;
  for (const auto& [key, choice] : choices_) products.push_back(to_json(key, choice));
  sets.push_back({{"device", device_}, {"library", library_}, {"products", products}});
  return to_text({{"choices", sets}}, 1) + "\n";
}

std::string to_hex(const void* data, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += fmt::format("{:02x}", static_cast<const unsigned char*>(data)[i]);
  return text;
}

bool from_hex(const std::string& text, void* data, std::size_t bytes) {
  if (text.size() != 2 * bytes || text.find_first_not_of("0123456789abcdef") != std::string::npos) return false;
  for (std::size_t i = 0; i < bytes; ++i)
    static_cast<unsigned char*>(data)[i] = static_cast<unsigned char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return true;
}

}  // namespace xlstm
