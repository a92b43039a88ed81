#include "kernels/cuda/emulator/block.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstring>
#include <numeric>
#include <random>

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

Block::Block(const LaunchConfig& config, Index3 index, const std::function<void()>& body)
    : config_(config),
      index_(index),
      body_(body),
      shared_(config.shared_bytes, config.threads / kWarpSize),
      threads_(static_cast<std::size_t>(config.threads)),
      warps_(static_cast<std::size_t>(config.threads / kWarpSize)) {}

void Block::yield() { scheduler_ = std::move(scheduler_).resume(); }

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
      Thread& self = threads_[static_cast<std::size_t>(current_)];
      if (fault_.empty() && !(self.open.empty() && self.groups.empty()))
        fault_ = "the thread ended with asynchronous copies that it never waited for";
      self.done = true;
      --live_;
      ++progress_;
      return std::move(scheduler_);
    });
  live_ = config_.threads;
}

// One warp as far as it goes. Lanes run in order: between collectives nothing orders them, which the race check sees.
bool Block::run_warp(int warp) {
  const long before = progress_;
  for (long pass = -1; pass != progress_;) {
    pass = progress_;
    for (int i = warp * kWarpSize; i < (warp + 1) * kWarpSize; ++i) {
      Thread& t = threads_[static_cast<std::size_t>(i)];
      if (t.done) continue;
      current_ = i;
      t.fiber = std::move(t.fiber).resume();
      if (!fault_.empty())
        throw EmulatorFault(fmt::format("{} (block {}, {}, {}; thread {}; seed {})", fault_, index_.x, index_.y,
                                        index_.z, current_, config_.seed));
    }
  }
  return progress_ != before;
}

void Block::run() {
  Block* const outer = std::exchange(running, this);
  std::mt19937_64 random(config_.seed * 1000003 + index_.x * 10007 + index_.y * 101 + index_.z);
  std::vector<int> order(warps_.size());
  std::iota(order.begin(), order.end(), 0);
  try {
    start_threads();
    while (live_ > 0) {
      std::shuffle(order.begin(), order.end(), random);
      bool moved = false;
      for (const int warp : order) moved |= run_warp(warp);
      if (!moved)
        throw EmulatorFault(
            fmt::format("deadlock in block {}, {}, {}: {}", index_.x, index_.y, index_.z, where_all_wait()));
    }
  } catch (...) {
    threads_.clear();  // unwinds the fibers while this block is still the running one
    running = outer;
    throw;
  }
  running = outer;
}

std::string Block::where_all_wait() const {
  std::string text = fmt::format("{} of {} living threads wait at a barrier", at_barrier_, live_);
  for (std::size_t w = 0; w < warps_.size(); ++w)
    if (warps_[w].arrived > 0)
      text += fmt::format(", {} lanes of warp {} at '{}'", warps_[w].arrived, w, warps_[w].operation);
  return text;
}

void Block::barrier() {
  if (warps_[static_cast<std::size_t>(warp())].arrived > 0)
    throw EmulatorFault(fmt::format("a barrier while lanes of this warp wait at '{}'",
                                    warps_[static_cast<std::size_t>(warp())].operation));
  if (++at_barrier_ == config_.threads) {
    at_barrier_ = 0;
    ++barrier_generation_;
    ++progress_;
    shared_.order_all();
    return;
  }
  for (const long generation = barrier_generation_; generation == barrier_generation_;) yield();
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
  ++progress_;
  shared_.order_lanes(warp());
}

void Block::copy_async(std::uint32_t to, const void* from, std::uint32_t valid) {
  Copy copy{to, {}};
  std::memcpy(copy.bytes.data(), from, valid);
  shared_.begin_copy(self(), to, 16);
  threads_[static_cast<std::size_t>(current_)].open.push_back(copy);
  if (config_.arrival == Arrival::immediate) shared_.land_copy(self(), to, copy.bytes.data(), 16);
}

void Block::commit_copies() {
  Thread& t = threads_[static_cast<std::size_t>(current_)];
  t.groups.push_back(std::move(t.open));
  t.open.clear();
}

void Block::wait_copies(int groups_left) {
  Thread& t = threads_[static_cast<std::size_t>(current_)];
  while (static_cast<int>(t.groups.size()) > groups_left) {
    if (config_.arrival == Arrival::late)
      for (const Copy& copy : t.groups.front()) shared_.land_copy(self(), copy.to, copy.bytes.data(), 16);
    t.groups.erase(t.groups.begin());
  }
}

void launch(const LaunchConfig& config, const std::function<void()>& body) {
  if (config.threads % kWarpSize != 0)
    throw EmulatorFault(fmt::format("{} threads are not whole warps", config.threads));
  std::vector<Index3> blocks;
  for (unsigned z = 0; z < config.grid.z; ++z)
    for (unsigned y = 0; y < config.grid.y; ++y)
      for (unsigned x = 0; x < config.grid.x; ++x) blocks.push_back({x, y, z});
  std::mt19937_64 random(config.seed);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (const Index3 index : blocks) Block(config, index, body).run();
}

}  // namespace xlstm::emulator
