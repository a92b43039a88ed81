#pragma once
// One CTA on the CPU: a fiber per thread, greedy warps in random order, and everything that can go wrong between them.
//
// The emulator runs the real kernel sources (through kernels/cuda/dialect.h) and stops at the first fault, which it
// throws as EmulatorFault: a warp collective that not all 32 lanes reach, a barrier that some threads never reach, an
// access outside shared memory or outside every registered global buffer, a race between threads that no barrier
// orders, and shared memory that an asynchronous copy still owns. Shared memory that nobody wrote is NaN.
//
// Warps run greedily: one goes as far as it can before another starts, in an order drawn from the seed. That is what
// exposes a missing barrier; several seeds are several interleavings.
#include <array>
#include <boost/context/fiber.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/shared_memory.h"

namespace xlstm::emulator {

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

// When an asynchronous copy lands: as late as its wait allows, or at once. Both are legal; a kernel must not care.
enum class Arrival : std::uint8_t { late, immediate };

struct LaunchConfig {
  Index3 grid{1, 1, 1};
  int threads = 32;
  std::size_t shared_bytes = 0;
  std::uint64_t seed = 1;
  Arrival arrival = Arrival::late;
};

constexpr int kWarpSize = 32;

// What every lane brings to a warp collective: by lane.
using LaneArguments = std::array<void*, kWarpSize>;

class Block {
 public:
  Block(const LaunchConfig& config, Index3 index, const std::function<void()>& body);
  void run();  // to the end of all threads, or to a fault

  // --- called by the dialect, from inside a thread
  int thread() const { return current_; }
  int lane() const { return current_ % kWarpSize; }
  Index3 index() const { return index_; }
  const LaunchConfig& config() const { return config_; }

  // Waits for all threads of the block.
  void barrier();

  // Waits for all 32 lanes; the last one runs f(arguments of all lanes), for all of them.
  template <class F>
  void collective(const char* operation, void* argument, F&& f) {
    Collective& c = warps_[static_cast<std::size_t>(warp())];
    if (!arrive(c, operation, argument)) return;
    f(c.arguments);
    complete(c);
  }

  void shared_read(std::uint32_t address, void* to, std::uint32_t bytes) { shared_.read(self(), address, to, bytes); }
  void shared_write(std::uint32_t address, const void* from, std::uint32_t bytes) {
    shared_.write(self(), address, from, bytes);
  }
  // Of another lane of this warp, inside a collective.
  const std::byte* shared_view(int lane, std::uint32_t address, std::uint32_t bytes) {
    return shared_.view({warp(), lane}, address, bytes);
  }

  // cp.async of 16 bytes: the first `valid` come from `from`, the rest are zeros.
  void copy_async(std::uint32_t to, const void* from, std::uint32_t valid);
  void commit_copies();
  void wait_copies(int groups_left);

 private:
  struct Copy {
    std::uint32_t to;
    std::array<std::byte, 16> bytes;
  };
  struct Thread {
    boost::context::fiber fiber;
    bool done = false;
    std::vector<Copy> open;                 // copies since the last commit
    std::vector<std::vector<Copy>> groups;  // committed ones, oldest first
  };
  struct Collective {
    int arrived = 0;
    long generation = 0;
    const char* operation = nullptr;
    LaneArguments arguments{};
  };

  int warp() const { return current_ / kWarpSize; }
  Accessor self() const { return {warp(), lane()}; }
  bool arrive(Collective& c, const char* operation, void* argument);
  void complete(Collective& c);
  void yield();
  void start_threads();
  bool run_warp(int warp);
  std::string where_all_wait() const;

  const LaunchConfig& config_;
  const Index3 index_;
  const std::function<void()>& body_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::vector<Collective> warps_;
  boost::context::fiber scheduler_;
  int current_ = 0, live_ = 0, at_barrier_ = 0;
  long barrier_generation_ = 0, progress_ = 0;  // progress_: grows with everything that lets somebody go on
  std::string fault_;
};

// The block that is running, for the dialect.
Block& current_block();

// Runs `body` for every thread of every block; blocks one after the other in random order. Throws EmulatorFault.
void launch(const LaunchConfig& config, const std::function<void()>& body);

}  // namespace xlstm::emulator
