#include "kernels/cuda/emulator/cluster.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "kernels/cuda/emulator/block.h"

namespace xlstm::emulator {

Cluster::Cluster(const LaunchConfig& config, Index3 first, const std::function<void()>& body)
    : config_(config),
      random_(config.seed * 1000003 + first.x * 10007 + first.y * 101 + first.z),
      clocks_(config.cluster * warps_of_block()) {
  for (int rank = 0; rank < config.cluster; ++rank)
    blocks_.push_back(
        std::make_unique<Block>(*this, Index3{first.x + static_cast<unsigned>(rank), first.y, first.z}, rank, body));
}

Cluster::~Cluster() = default;

void Cluster::run() {
  std::vector<int> order(blocks_.size() * static_cast<std::size_t>(warps_of_block()));
  std::iota(order.begin(), order.end(), 0);
  for (auto& block : blocks_) block->start_threads();
  const auto alive = [&] { return std::any_of(blocks_.begin(), blocks_.end(), [](auto& b) { return b->live() > 0; }); };
  while (alive()) {
    if (run_round(order) || land_one()) continue;
    std::string text = "deadlock";
    for (auto& block : blocks_) text += block->where_all_wait();
    throw EmulatorFault(text);
  }
  if (!pending_.empty()) throw EmulatorFault("the kernel ended before its bulk copies had landed");
}

bool Cluster::run_round(std::vector<int>& order) {
  std::shuffle(order.begin(), order.end(), random_);
  const long before = progress_;
  for (const int warp : order) block(warp / warps_of_block()).run_warp(warp % warps_of_block());
  return progress_ != before;
}

void Cluster::transfer(int rank, const Transfer& transfer) {
  if (config_.arrival == Arrival::immediate)
    block(rank).land(transfer);
  else
    pending_.push_back({rank, transfer});
}

// Of those that wait for nothing but their turn: any.
bool Cluster::land_one() {
  if (pending_.empty()) return false;
  const std::size_t which = random_() % pending_.size();
  const Pending one = pending_[which];
  pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(which));
  block(one.rank).land(one.transfer);
  return true;
}

bool Cluster::arrive() {
  if (++arrived_ < config_.threads * config_.cluster) return false;
  arrived_ = 0;
  ++generation_;
  ++progress_;
  clocks_.order_warps(0, config_.cluster * warps_of_block());
  return true;
}

void launch(const LaunchConfig& config, const std::function<void()>& body) {
  if (config.threads % kWarpSize != 0)
    throw EmulatorFault(fmt::format("{} threads are not whole warps", config.threads));
  if (config.cluster < 1 || config.grid.x % static_cast<unsigned>(config.cluster) != 0)
    throw EmulatorFault(fmt::format("{} CTAs are not whole clusters of {}", config.grid.x, config.cluster));
  std::vector<Index3> clusters;
  for (unsigned z = 0; z < config.grid.z; ++z)
    for (unsigned y = 0; y < config.grid.y; ++y)
      for (unsigned x = 0; x < config.grid.x; x += static_cast<unsigned>(config.cluster)) clusters.push_back({x, y, z});
  std::mt19937_64 random(config.seed);
  std::shuffle(clusters.begin(), clusters.end(), random);
  for (const Index3 first : clusters) Cluster(config, first, body).run();
}

}  // namespace xlstm::emulator
