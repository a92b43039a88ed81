#pragma once
// Shared memory of a CTA with a memory of its own: who wrote and read each word, and when (clocks.h). Two accesses to a
// word, at least one of them a write, that nothing orders are a race.
//
// Asynchronous readers (matrix instructions, bulk stores) go another way to the memory than threads do: what a thread
// wrote they see only behind its publish_to_async(), and nobody may write what they still read.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/emulator/clocks.h"

namespace xlstm::emulator {

class SharedMemory {
 public:
  SharedMemory(std::size_t bytes, const Clocks& clocks, std::size_t threads);  // of the whole cluster

  // Where it begins: not at 0, as on a device that keeps the first bytes for itself.
  static constexpr std::uint32_t kBegin = 1024;

  // Each throws EmulatorFault with the address and both parties.
  void read(Accessor who, std::uint32_t address, void* to, std::uint32_t bytes);
  void write(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes);
  // A read whose bytes are used in place.
  const std::byte* view(Accessor who, std::uint32_t address, std::uint32_t bytes);

  // An asynchronous copy owns these bytes from begin_copy() on: no access until it has landed.
  void begin_copy(Accessor who, std::uint32_t address, std::uint32_t bytes);
  void land_copy(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes);
  // The same by the engine, in the order of `time`.
  void begin_bulk(Accessor issuer, std::uint32_t address, std::uint32_t bytes, std::int32_t time);
  void land_bulk(std::uint32_t address, const void* from, std::uint32_t bytes);

  // An asynchronous read, from its issue until it is known to be over.
  void begin_async_read(Accessor who, std::uint32_t address, std::uint32_t bytes);
  void end_async_read(Accessor who, std::uint32_t address, std::uint32_t bytes);
  const std::byte* async_view(std::uint32_t address) const { return bytes_.data() + address - kBegin; }
  void publish_to_async(Accessor who) { ++published_[thread(who)]; }

  void become_barrier(std::uint32_t address);  // 8 bytes that are no longer for loads and stores

 private:
  static constexpr std::uint32_t kWord = 4;
  struct Stamp {
    std::int16_t warp = -1;
    std::int16_t lane = -1;  // kManyLanes: several
    std::int32_t time = 0;
  };
  struct Word {
    Stamp written;
    std::vector<Stamp> read;          // the last one of every warp that read it since it was written
    std::int32_t published = kAsync;  // of the writer, when it wrote
    std::uint16_t async_readers = 0;
    bool locked = false, barrier = false;
  };
  static constexpr std::int16_t kManyLanes = 32;
  static constexpr std::int32_t kAsync = -1;  // written by nobody yet, or by a bulk copy

  static std::uint32_t first_word(std::uint32_t address) { return (address - kBegin) / kWord; }
  static std::uint32_t address_of(std::uint32_t word) { return kBegin + word * kWord; }
  static std::size_t thread(Accessor who) {
    return static_cast<std::size_t>(who.warp) * kWarpSize + static_cast<std::size_t>(who.lane);
  }
  void check_range(std::uint32_t address, std::uint32_t bytes) const;
  void note_read(Accessor who, std::uint32_t word);
  void note_write(Accessor who, std::uint32_t word);
  bool ordered(const Stamp& before, Accessor now) const;
  [[noreturn]] void race(const char* what, const Stamp& before, Accessor now, std::uint32_t word) const;
  Stamp stamp_of(Accessor who) const;
  static void check_plain(const Word& word, std::uint32_t index);

  const Clocks& clocks_;
  std::vector<std::byte> bytes_;
  std::vector<Word> words_;
  std::vector<std::int32_t> published_;  // [thread]: how often it has
};

}  // namespace xlstm::emulator
