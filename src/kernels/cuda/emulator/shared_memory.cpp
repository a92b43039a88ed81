#include "kernels/cuda/emulator/shared_memory.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

namespace xlstm::emulator {

namespace {

constexpr std::byte kPoison{0xff};  // as f32, bf16 or f64: NaN

std::string lane_text(int warp, int lane) {
  return lane >= 32 ? fmt::format("several lanes of warp {}", warp) : fmt::format("lane {} of warp {}", lane, warp);
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes, int warps)
    : bytes_(bytes, kPoison),
      words_((bytes + kWord - 1) / kWord),
      clocks_(static_cast<std::size_t>(warps), std::vector<std::int32_t>(static_cast<std::size_t>(warps), 0)) {
  for (std::size_t w = 0; w < clocks_.size(); ++w) clocks_[w][w] = 1;
}

void SharedMemory::check_range(std::uint32_t address, std::uint32_t bytes) const {
  if (std::size_t{address} + bytes > bytes_.size())
    throw EmulatorFault(fmt::format("shared memory: {} bytes at {} are outside of {}", bytes, address, bytes_.size()));
  const std::uint32_t alignment = bytes & (~bytes + 1);
  if (address % std::min<std::uint32_t>(alignment, 16) != 0)
    throw EmulatorFault(fmt::format("shared memory: {} bytes at {} are not aligned", bytes, address));
}

bool SharedMemory::ordered(const Stamp& before, Accessor who) const {
  if (before.warp < 0) return true;
  const auto& known = clocks_[static_cast<std::size_t>(who.warp)];
  if (before.warp != who.warp) return known[static_cast<std::size_t>(before.warp)] >= before.time;
  return before.time < now(who.warp) || before.lane == who.lane;
}

void SharedMemory::race(const char* what, const Stamp& before, Accessor who, std::uint32_t word) const {
  throw EmulatorFault(fmt::format("race on shared memory at {}: {} by {} and {}, with no barrier between them",
                                  word * kWord, what, lane_text(before.warp, before.lane),
                                  lane_text(who.warp, who.lane)));
}

void SharedMemory::note_read(Accessor who, std::uint32_t index) {
  Word& word = words_[index];
  if (word.locked)
    throw EmulatorFault(fmt::format("shared memory at {}: read before its copy was waited for", index * kWord));
  if (!ordered(word.written, who)) race("write and read", word.written, who, index);
  for (Stamp& stamp : word.read)
    if (stamp.warp == who.warp) {
      if (stamp.time == now(who.warp) && stamp.lane != who.lane)
        stamp.lane = kManyLanes;
      else
        stamp = {static_cast<std::int16_t>(who.warp), static_cast<std::int16_t>(who.lane), now(who.warp)};
      return;
    }
  word.read.push_back({static_cast<std::int16_t>(who.warp), static_cast<std::int16_t>(who.lane), now(who.warp)});
}

void SharedMemory::note_write(Accessor who, std::uint32_t index) {
  Word& word = words_[index];
  if (word.locked)
    throw EmulatorFault(fmt::format("shared memory at {}: written while a copy is on its way there", index * kWord));
  if (!ordered(word.written, who)) race("two writes", word.written, who, index);
  for (const Stamp& stamp : word.read)
    if (!ordered(stamp, who)) race("read and write", stamp, who, index);
  word.read.clear();
  word.written = {static_cast<std::int16_t>(who.warp), static_cast<std::int16_t>(who.lane), now(who.warp)};
}

const std::byte* SharedMemory::view(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  check_range(address, bytes);
  for (std::uint32_t w = address / kWord; w <= (address + bytes - 1) / kWord; ++w) note_read(who, w);
  return bytes_.data() + address;
}

void SharedMemory::read(Accessor who, std::uint32_t address, void* to, std::uint32_t bytes) {
  std::memcpy(to, view(who, address, bytes), bytes);
}

void SharedMemory::write(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes) {
  check_range(address, bytes);
  if (bytes < kWord)
    throw EmulatorFault("shared memory: writes of less than 4 bytes cannot be told apart; write pairs");
  for (std::uint32_t w = address / kWord; w < (address + bytes) / kWord; ++w) note_write(who, w);
  std::memcpy(bytes_.data() + address, from, bytes);
}

void SharedMemory::begin_copy(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  check_range(address, bytes);
  for (std::uint32_t w = address / kWord; w < (address + bytes) / kWord; ++w) {
    note_write(who, w);
    words_[w].locked = true;
  }
  std::fill_n(bytes_.begin() + address, bytes, kPoison);
}

void SharedMemory::land_copy(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes) {
  for (std::uint32_t w = address / kWord; w < (address + bytes) / kWord; ++w) words_[w].locked = false;
  write(who, address, from, bytes);
}

void SharedMemory::order_lanes(int warp) { ++clocks_[static_cast<std::size_t>(warp)][static_cast<std::size_t>(warp)]; }

void SharedMemory::order_all() {
  std::vector<std::int32_t> all(clocks_.size(), 0);
  for (const auto& clock : clocks_)
    for (std::size_t w = 0; w < all.size(); ++w) all[w] = std::max(all[w], clock[w]);
  for (std::size_t w = 0; w < clocks_.size(); ++w) {
    clocks_[w] = all;
    ++clocks_[w][w];
  }
}

}  // namespace xlstm::emulator
