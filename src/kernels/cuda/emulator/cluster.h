#pragma once
// The CTAs of a cluster side by side: greedy warps in random order, and bulk copies that land when they please.
//
// Greedy: a warp goes as far as it can before another starts, in an order drawn from the seed. That is what exposes a
// missing barrier; several seeds are several interleavings.
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "kernels/cuda/emulator/barriers.h"
#include "kernels/cuda/emulator/tensor_map.h"

namespace xlstm::emulator {

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

// When asynchronous work is done: as late as it may, or at once. Both are legal; a kernel must not care.
enum class Arrival : std::uint8_t { late, immediate };

struct LaunchConfig {
  Index3 grid{1, 1, 1};
  int cluster = 1;  // CTAs, along x
  int threads = 32;
  std::size_t shared_bytes = 0;
  std::uint64_t seed = 1;
  Arrival arrival = Arrival::late;
};

// A bulk copy to the shared memory of one CTA: a box of a tensor, or `bytes` as they lie.
struct Transfer {
  std::uint32_t to = 0, barrier = 0;
  const TensorMap* map = nullptr;
  BoxPlace at;
  const std::byte* from = nullptr;
  std::uint32_t bytes = 0;
  std::int32_t time = 0;  // of the engine
  Clocks::Clock issued;   // what the issuer knew
};

class Block;

class Cluster {
 public:
  Cluster(const LaunchConfig& config, Index3 first, const std::function<void()>& body);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  void run();  // to the end of all threads, or to a fault

  const LaunchConfig& config() const { return config_; }
  Clocks& clocks() { return clocks_; }
  int size() const { return config_.cluster; }
  Block& block(int rank) { return *blocks_[static_cast<std::size_t>(rank)]; }
  int warps_of_block() const { return config_.threads / kWarpSize; }

  long& progress() { return progress_; }  // grows with everything that lets somebody go on
  void transfer(int rank, const Transfer& transfer);

  // Of sync_cluster(): all threads of all blocks.
  bool arrive();  // true for the last
  long generation() const { return generation_; }

 private:
  struct Pending {
    int rank;
    Transfer transfer;
  };
  bool land_one();
  bool run_round(std::vector<int>& order);

  const LaunchConfig& config_;
  std::mt19937_64 random_;
  Clocks clocks_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Pending> pending_;
  int arrived_ = 0;
  long generation_ = 0, progress_ = 0;
};

// Runs `body` for every thread of every block; clusters one after the other in random order. Throws EmulatorFault.
void launch(const LaunchConfig& config, const std::function<void()>& body);

}  // namespace xlstm::emulator
