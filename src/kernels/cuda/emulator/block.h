#pragma once
// One CTA on the CPU: a fiber per thread, and everything that can go wrong between them.
//
// The emulator runs the real kernel sources (through kernels/cuda/dialect.h) and stops at the first fault, which it
// throws as EmulatorFault: a warp collective that not all 32 lanes reach, a barrier that some threads never reach, an
// access outside shared memory or outside every registered global buffer, a race between threads that no barrier
// orders, and shared memory that an asynchronous copy still owns. Shared memory that nobody wrote is NaN.
#include <array>
#include <boost/context/fiber.hpp>
#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/cluster.h"
#include "kernels/cuda/emulator/products.h"

namespace xlstm::emulator {

// What every lane brings to a warp collective: by lane.
using LaneArguments = std::array<void*, kWarpSize>;

class Block {
 public:
  Block(Cluster& cluster, Index3 index, int rank, const std::function<void()>& body);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // --- called by the scheduler
  void start_threads();
  void run_warp(int warp);  // as far as it goes
  int live() const { return live_; }
  std::string where_all_wait() const;
  void land(const Transfer& transfer);
  Mbarrier& barrier_at(std::uint32_t address);  // throws EmulatorFault: none was made there

  // --- called by the dialect, from inside a thread
  int thread() const { return current_; }
  int lane() const { return current_ % kWarpSize; }
  int warp() const { return current_ / kWarpSize; }
  Index3 index() const { return index_; }
  int rank() const { return rank_; }
  Cluster& cluster() { return cluster_; }

  // Waits for all threads of the block; of the cluster.
  void barrier();
  void cluster_barrier();

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
    return shared_.view({first_warp_ + warp(), lane}, address, bytes);
  }
  void shared_write_of(int lane, std::uint32_t address, const void* from, std::uint32_t bytes) {
    shared_.write({first_warp_ + warp(), lane}, address, from, bytes);
  }
  // Of a whole warp: gives registers back to the CTA, or waits until it has them to spare.
  void set_registers(const char* operation, int each);
  void publish_to_async() { shared_.publish_to_async(self()); }

  // cp.async of 16 bytes: the first `valid` come from `from`, the rest are zeros.
  void copy_async(std::uint32_t to, const void* from, std::uint32_t valid);
  void commit_copies();
  void wait_copies(int groups_left);

  // --- barriers
  void make_barrier(std::uint32_t address, int arrivals);
  void arrive_at(std::uint32_t address, int rank);            // of a whole warp, inside a collective
  void expect_at(std::uint32_t address, std::int64_t bytes);  // of one thread; arrives
  void wait_at(std::uint32_t address, int parity);            // of one thread
  void named_barrier(int id, int threads, bool wait);         // of a whole warp

  // --- bulk copies, of one thread
  void start_transfer(const Transfer& transfer, std::uint32_t cluster_mask);
  void store_box(const TensorMap& map, BoxPlace at, std::uint32_t from);
  void commit_stores();
  void wait_stores(int groups_left);

  ProductQueue& products() { return products_[static_cast<std::size_t>(warp())]; }

 private:
  struct Copy {
    std::uint32_t to;
    std::array<std::byte, 16> bytes;
  };
  struct Store {
    TensorMap map;
    BoxPlace at;
    std::uint32_t from;
    bool done;
  };
  struct Thread {
    boost::context::fiber fiber;
    bool done = false;
    std::vector<Copy> open;                 // copies since the last commit
    std::vector<std::vector<Copy>> groups;  // committed ones, oldest first
    std::vector<Store> open_stores;
    std::vector<std::vector<Store>> stores;
    std::int64_t waits_at = -1;  // a barrier's address
  };
  struct Collective {
    int arrived = 0;
    long generation = 0;
    const char* operation = nullptr;
    LaneArguments arguments{};
  };

  Thread& self_thread() { return threads_[static_cast<std::size_t>(current_)]; }
  Accessor self() const { return {first_warp_ + warp(), lane()}; }
  bool arrive(Collective& c, const char* operation, void* argument);
  void complete(Collective& c);
  void check_no_collective(const char* what) const;
  void yield();
  std::string unfinished();
  void write_out(Store& store);

  Cluster& cluster_;
  const Index3 index_;
  const int rank_, first_warp_;
  const std::function<void()>& body_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::vector<Collective> warps_;
  std::vector<ProductQueue> products_;
  std::map<std::uint32_t, Mbarrier> barriers_;
  std::map<int, NamedBarrier> named_;
  std::vector<int> registers_;  // [warp]: of a thread
  int spare_registers_ = 0;     // of a warp's threads each, that nobody has
  boost::context::fiber scheduler_;
  int current_ = 0, live_ = 0, at_barrier_ = 0;
  long barrier_generation_ = 0;
  std::string fault_;
};

// The block that is running, for the dialect.
Block& current_block();

}  // namespace xlstm::emulator
