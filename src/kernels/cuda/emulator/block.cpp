#include "kernels/cuda/emulator/block.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstring>

namespace xlstm::emulator {

namespace {

namespace context = boost::context;

Block* running = nullptr;

constexpr std::size_t kStackBytes = std::size_t{128} << 10;  // of a thread: kernels keep whole tiles in registers

}  // namespace

Block& current_block() {
  if (!running) throw EmulatorFault("the dialect was called outside of a launch");
  return *running;
}

Block::Block(Cluster& cluster, Index3 index, int rank, const std::function<void()>& body)
    : cluster_(cluster),
      index_(index),
      rank_(rank),
      first_warp_(rank * cluster.warps_of_block()),
      body_(body),
      shared_(cluster.config().shared_bytes, cluster.clocks(),
              static_cast<std::size_t>(cluster.config().threads * cluster.size())),
      threads_(static_cast<std::size_t>(cluster.config().threads)),
      warps_(static_cast<std::size_t>(cluster.warps_of_block())),
      registers_(warps_.size(), 65536 / cluster.config().threads / 8 * 8) {
  for (int w = 0; w < cluster.warps_of_block(); ++w)
    products_.emplace_back(shared_, first_warp_ + w, w % 4, cluster.config().arrival == Arrival::immediate);
}

// After a fault the fibers unwind, and still call the dialect.
Block::~Block() {
  Block* const outer = std::exchange(running, this);
  threads_.clear();
  running = outer;
}

void Block::yield() { scheduler_ = std::move(scheduler_).resume(); }

std::string Block::unfinished() {
  const Thread& t = self_thread();
  if (!t.open.empty() || !t.groups.empty()) return "the thread ended with asynchronous copies that it never waited for";
  if (!t.open_stores.empty() || !t.stores.empty()) return "the thread ended with bulk stores that it never waited for";
  if (!products().idle()) return "the thread ended with matrix products that it never waited for";
  return "";
}

void Block::start_threads() {
  static thread_local context::pooled_fixedsize_stack stacks(kStackBytes);
  for (Thread& t : threads_)
    t.fiber = context::fiber(std::allocator_arg, stacks, [this](context::fiber&& scheduler) {
      scheduler_ = std::move(scheduler);
      try {
        body_();
      } catch (const std::exception& e) {
        fault_ = e.what();
      }
      if (fault_.empty()) fault_ = unfinished();
      self_thread().done = true;
      --live_;
      ++cluster_.progress();
      return std::move(scheduler_);
    });
  live_ = static_cast<int>(threads_.size());
}

// Lanes run in order: between collectives nothing orders them, which the race check sees.
void Block::run_warp(int warp) {
  Block* const outer = std::exchange(running, this);
  for (long pass = -1; pass != cluster_.progress();) {
    pass = cluster_.progress();
    for (int i = warp * kWarpSize; i < (warp + 1) * kWarpSize; ++i) {
      Thread& t = threads_[static_cast<std::size_t>(i)];
      if (t.done) continue;
      current_ = i;
      t.fiber = std::move(t.fiber).resume();
      if (fault_.empty()) continue;
      running = outer;
      throw EmulatorFault(fmt::format("{} (block {}, {}, {}; thread {}; seed {})", fault_, index_.x, index_.y, index_.z,
                                      current_, cluster_.config().seed));
    }
  }
  running = outer;
}

std::string Block::where_all_wait() const {
  if (live_ == 0) return "";
  std::string text = fmt::format(" in block {}, {}, {}: {} of {} living threads wait at a barrier", index_.x, index_.y,
                                 index_.z, at_barrier_, live_);
  for (std::size_t w = 0; w < warps_.size(); ++w)
    if (warps_[w].arrived > 0)
      text += fmt::format(", {} lanes of warp {} at '{}'", warps_[w].arrived, w, warps_[w].operation);
  std::map<std::int64_t, int> waiting;
  for (const Thread& t : threads_)
    if (t.waits_at >= 0) ++waiting[t.waits_at];
  for (const auto& [address, count] : waiting) text += fmt::format(", {} threads at the one at {}", count, address);
  return text;
}

// --- what waits for all threads

void Block::check_no_collective(const char* what) const {
  const Collective& c = warps_[static_cast<std::size_t>(warp())];
  if (c.arrived > 0) throw EmulatorFault(fmt::format("{} while lanes of this warp wait at '{}'", what, c.operation));
}

void Block::barrier() {
  check_no_collective("a barrier");
  if (++at_barrier_ == static_cast<int>(threads_.size())) {
    at_barrier_ = 0;
    ++barrier_generation_;
    ++cluster_.progress();
    cluster_.clocks().order_warps(first_warp_, cluster_.warps_of_block());
    return;
  }
  for (const long generation = barrier_generation_; generation == barrier_generation_;) yield();
}

void Block::cluster_barrier() {
  check_no_collective("a cluster's barrier");
  const long generation = cluster_.generation();
  if (cluster_.arrive()) return;
  while (generation == cluster_.generation()) yield();
}

// True for the last lane, which then has all arguments. The others come back when the operation is complete.
bool Block::arrive(Collective& c, const char* operation, void* argument) {
  if (c.arrived > 0 && std::strcmp(c.operation, operation) != 0)
    throw EmulatorFault(fmt::format("lanes of a warp part: some are at '{}', others at '{}'", c.operation, operation));
  c.operation = operation;
  c.arguments[static_cast<std::size_t>(lane())] = argument;
  if (++c.arrived == kWarpSize) return true;
  for (const long generation = c.generation; generation == c.generation;) yield();
  return false;
}

void Block::complete(Collective& c) {
  c.arrived = 0;
  ++c.generation;
  ++cluster_.progress();
  cluster_.clocks().order_lanes(first_warp_ + warp());
}

void Block::named_barrier(int id, int threads, bool wait) {
  struct Visit {
    long generation;
  } mine{};
  collective(wait ? "sync_threads" : "arrive_threads", &mine, [&](const LaneArguments& lanes) {
    NamedBarrier& b = named_[id];
    if (b.arrived > 0 && b.threads != threads)
      throw EmulatorFault(fmt::format("barrier {}: some wait for {} threads, others for {}", id, b.threads, threads));
    b.threads = threads;
    cluster_.clocks().order_lanes(first_warp_ + warp());
    Clocks::join(b.gathered, cluster_.clocks().of_lane_before(self()));
    for (void* lane : lanes) static_cast<Visit*>(lane)->generation = b.generation;
    b.arrived += kWarpSize;
    if (b.arrived > threads) throw EmulatorFault(fmt::format("barrier {}: more than {} threads", id, threads));
    if (b.arrived < threads) return;
    b.arrived = 0;
    b.known = b.gathered;
    ++b.generation;
    ++cluster_.progress();
  });
  if (!wait) return;
  while (named_[id].generation == mine.generation) yield();
  cluster_.clocks().learn(self(), named_[id].known);
}

void Block::set_registers(const char* operation, int each) {
  const auto mine = static_cast<std::size_t>(warp());
  collective(operation, nullptr, [](const LaneArguments&) {});
  while (registers_[mine] != each && each - registers_[mine] > spare_registers_) yield();
  if (registers_[mine] == each) return;
  spare_registers_ -= each - registers_[mine];  // the first lane that goes on, for all
  registers_[mine] = each;
  ++cluster_.progress();
}

// --- barriers in shared memory

Mbarrier& Block::barrier_at(std::uint32_t address) {
  const auto found = barriers_.find(address);
  if (found == barriers_.end())
    throw EmulatorFault(fmt::format("shared memory at {}: no barrier was made there", address));
  return found->second;
}

void Block::make_barrier(std::uint32_t address, int arrivals) {
  shared_.become_barrier(address);
  if (!barriers_.emplace(address, Mbarrier(arrivals)).second)
    throw EmulatorFault(fmt::format("shared memory at {}: a second barrier is made there", address));
}

void Block::arrive_at(std::uint32_t address, int rank) {
  if (cluster_.block(rank).live() == 0)
    throw EmulatorFault(fmt::format("an arrival at CTA {} of the cluster, which has ended", rank));
  cluster_.clocks().order_lanes(first_warp_ + warp());
  cluster_.block(rank).barrier_at(address).arrive(cluster_.clocks().of_lane_before(self()));
  ++cluster_.progress();
}

void Block::expect_at(std::uint32_t address, std::int64_t bytes) {
  Mbarrier& b = barrier_at(address);
  b.expect(bytes);
  b.arrive(cluster_.clocks().of_lane_before(self()));
  ++cluster_.progress();
}

void Block::wait_at(std::uint32_t address, int parity) {
  const Mbarrier& b = barrier_at(address);
  self_thread().waits_at = address;
  while (!b.over(parity)) yield();
  self_thread().waits_at = -1;
  cluster_.clocks().learn(self(), b.known());
}

}  // namespace xlstm::emulator
