#include "kernels/cuda/emulator/shared_memory.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

namespace xlstm::emulator {

namespace {

constexpr std::byte kPoison{0xff};  // as f32, bf16 or f64: NaN

std::string lane_text(int warp, int lane, int engine) {
  if (warp == engine) return "a bulk copy";
  return lane >= 32 ? fmt::format("several lanes of warp {}", warp) : fmt::format("lane {} of warp {}", lane, warp);
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes, const Clocks& clocks, std::size_t threads)
    : clocks_(clocks), bytes_(bytes, kPoison), words_((bytes + kWord - 1) / kWord), published_(threads, 0) {}

void SharedMemory::check_range(std::uint32_t address, std::uint32_t bytes) const {
  if (address < kBegin || std::size_t{address} - kBegin + bytes > bytes_.size())
    throw EmulatorFault(
        fmt::format("shared memory: {} bytes at {} are outside of {} from {}", bytes, address, bytes_.size(), kBegin));
  const std::uint32_t alignment = bytes & (~bytes + 1);
  if (address % std::min<std::uint32_t>(alignment, 16) != 0)
    throw EmulatorFault(fmt::format("shared memory: {} bytes at {} are not aligned", bytes, address));
}

SharedMemory::Stamp SharedMemory::stamp_of(Accessor who) const {
  return {static_cast<std::int16_t>(who.warp), static_cast<std::int16_t>(who.lane), clocks_.now(who.warp)};
}

bool SharedMemory::ordered(const Stamp& before, Accessor who) const {
  if (before.warp < 0) return true;
  if (before.warp != who.warp) return clocks_.of(who)[static_cast<std::size_t>(before.warp)] >= before.time;
  return before.time < clocks_.now(who.warp) || before.lane == who.lane;
}

void SharedMemory::race(const char* what, const Stamp& before, Accessor who, std::uint32_t word) const {
  throw EmulatorFault(fmt::format("race on shared memory at {}: {} by {} and {}, with no barrier between them",
                                  address_of(word), what, lane_text(before.warp, before.lane, clocks_.engine()),
                                  lane_text(who.warp, who.lane, clocks_.engine())));
}

void SharedMemory::note_read(Accessor who, std::uint32_t index) {
  Word& word = words_[index];
  check_plain(word, index);
  if (word.locked)
    throw EmulatorFault(fmt::format("shared memory at {}: read before its copy was waited for", address_of(index)));
  if (!ordered(word.written, who)) race("write and read", word.written, who, index);
  for (Stamp& stamp : word.read)
    if (stamp.warp == who.warp) {
      if (stamp.time == clocks_.now(who.warp) && stamp.lane != who.lane)
        stamp.lane = kManyLanes;
      else
        stamp = stamp_of(who);
      return;
    }
  word.read.push_back(stamp_of(who));
}

void SharedMemory::note_write(Accessor who, std::uint32_t index) {
  Word& word = words_[index];
  check_plain(word, index);
  if (word.locked)
    throw EmulatorFault(
        fmt::format("shared memory at {}: written while a copy is on its way there", address_of(index)));
  if (word.async_readers > 0)
    throw EmulatorFault(fmt::format("shared memory at {}: written while it is read asynchronously", address_of(index)));
  if (!ordered(word.written, who)) race("two writes", word.written, who, index);
  for (const Stamp& stamp : word.read)
    if (!ordered(stamp, who)) race("read and write", stamp, who, index);
  word.read.clear();
  word.written = stamp_of(who);
  word.published = published_[thread(who)];
}

const std::byte* SharedMemory::view(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  check_range(address, bytes);
  for (std::uint32_t w = first_word(address); w <= first_word(address + bytes - 1); ++w) note_read(who, w);
  return bytes_.data() + address - kBegin;
}

void SharedMemory::read(Accessor who, std::uint32_t address, void* to, std::uint32_t bytes) {
  std::memcpy(to, view(who, address, bytes), bytes);
}

void SharedMemory::write(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes) {
  check_range(address, bytes);
  if (bytes < kWord)
    throw EmulatorFault("shared memory: writes of less than 4 bytes cannot be told apart; write pairs");
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) note_write(who, w);
  std::memcpy(bytes_.data() + address - kBegin, from, bytes);
}

void SharedMemory::begin_copy(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  check_range(address, bytes);
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) {
    note_write(who, w);
    words_[w].locked = true;
  }
  std::fill_n(bytes_.begin() + address - kBegin, bytes, kPoison);
}

void SharedMemory::land_copy(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes) {
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) words_[w].locked = false;
  write(who, address, from, bytes);
}

void SharedMemory::begin_bulk(Accessor issuer, std::uint32_t address, std::uint32_t bytes, std::int32_t time) {
  begin_copy(issuer, address, bytes);
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) {
    words_[w].written = {static_cast<std::int16_t>(clocks_.engine()), 0, time};
    words_[w].published = kAsync;
  }
}

void SharedMemory::land_bulk(std::uint32_t address, const void* from, std::uint32_t bytes) {
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) words_[w].locked = false;
  std::memcpy(bytes_.data() + address - kBegin, from, bytes);
}

void SharedMemory::begin_async_read(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  check_range(address, bytes);
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) {
    note_read(who, w);
    Word& word = words_[w];
    const Accessor writer{word.written.warp, word.written.lane};
    if (word.published != kAsync && published_[thread(writer)] == word.published)
      throw EmulatorFault(fmt::format("shared memory at {}: read asynchronously, but {} has not published it",
                                      address_of(w), lane_text(writer.warp, writer.lane, clocks_.engine())));
    ++word.async_readers;
  }
}

void SharedMemory::end_async_read(Accessor who, std::uint32_t address, std::uint32_t bytes) {
  for (std::uint32_t w = first_word(address); w < first_word(address + bytes); ++w) {
    --words_[w].async_readers;
    note_read(who, w);
  }
}

void SharedMemory::become_barrier(std::uint32_t address) {
  check_range(address, 8);
  for (std::uint32_t w = first_word(address); w < first_word(address + 8); ++w) words_[w].barrier = true;
}

void SharedMemory::check_plain(const Word& word, std::uint32_t index) {
  if (word.barrier) throw EmulatorFault(fmt::format("shared memory at {}: this is a barrier", address_of(index)));
}

}  // namespace xlstm::emulator
