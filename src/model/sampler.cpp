#include "model/sampler.h"

#include <algorithm>
#include <cmath>

namespace xlstm {

void SamplingConfig::check() const {
  if (!(temperature >= 0 && std::isfinite(temperature)))
    throw user_error("--temperature {}: must be a number, 0 or more", temperature);
  if (top_k < 0) throw user_error("--top-k {}: must be 0 (all) or more", top_k);
  if (!(top_p > 0 && top_p <= 1)) throw user_error("--top-p {}: must be above 0 and at most 1", top_p);
}

Sampler::Sampler(const SamplingConfig& cfg, std::vector<int> ids) : cfg_((cfg.check(), cfg)), ids_(std::move(ids)) {
  XL_CHECK(!ids_.empty(), "no token may be drawn");
}

int Sampler::sample(const float* logits, std::uint64_t sequence, std::uint64_t position) {
  order_.clear();
  for (const int id : ids_) order_.emplace_back(logits[id], id);
  // Ties go to the smaller id, so that the order is the same everywhere.
  const auto likelier = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  if (cfg_.temperature == 0) return std::min_element(order_.begin(), order_.end(), likelier)->second;

  if (cfg_.top_k > 0 && cfg_.top_k < static_cast<i64>(order_.size())) {
    std::nth_element(order_.begin(), order_.begin() + cfg_.top_k - 1, order_.end(), likelier);
    order_.resize(static_cast<std::size_t>(cfg_.top_k));
  }
  const auto first = *std::min_element(order_.begin(), order_.end(), likelier);
  const auto weight = [&](const auto& token) {
    return std::exp((static_cast<double>(token.first) - static_cast<double>(first.first)) / cfg_.temperature);
  };
  double total = 0;
  for (const auto& token : order_) total += weight(token);

  // The i-th likeliest token: only as many are sorted as are asked for.
  std::size_t sorted = 0;
  const auto likeliest = [&](std::size_t i) {
    while (sorted <= i) {
      const std::size_t next = std::min(order_.size(), std::max<std::size_t>(32, 4 * sorted));
      const auto from = order_.begin() + static_cast<std::ptrdiff_t>(sorted);
      const auto to = order_.begin() + static_cast<std::ptrdiff_t>(next);
      if (to != order_.end()) std::nth_element(from, to, order_.end(), likelier);
      std::sort(from, to, likelier);
      sorted = next;
    }
    return order_[i];
  };

  // The smallest set of most likely tokens that holds top_p of the mass.
  std::size_t n = cfg_.top_p < 1 ? 0 : order_.size();
  double kept = cfg_.top_p < 1 ? 0 : total;
  while (n < order_.size() && (n == 0 || kept < cfg_.top_p * total)) kept += weight(likeliest(n++));

  double left = RandomStream(cfg_.seed, RandomUse::sampling, sequence).uniform(position) * kept;
  for (std::size_t i = 0; i + 1 < n; ++i)
    if ((left -= weight(likeliest(i))) < 0) return likeliest(i).second;
  return likeliest(n - 1).second;
}

}  // namespace xlstm
