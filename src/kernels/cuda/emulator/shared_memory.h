#pragma once
// Shared memory of a CTA with a memory of its own: who wrote and read each word, and when.
//
// Time is a vector clock per warp: a barrier lets every warp know all that happened before it; a warp collective orders
// the lanes of one warp. Two accesses to a word, at least one of them a write, that neither orders are a race.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace xlstm::emulator {

struct EmulatorFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Accessor {
  int warp, lane;
};

class SharedMemory {
 public:
  SharedMemory(std::size_t bytes, int warps);

  // Each throws EmulatorFault with the address and both parties. `address` counts from 0.
  void read(Accessor who, std::uint32_t address, void* to, std::uint32_t bytes);
  void write(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes);
  // A read whose bytes are used in place.
  const std::byte* view(Accessor who, std::uint32_t address, std::uint32_t bytes);

  // An asynchronous copy owns these bytes from begin_copy() on: no access until it has landed.
  void begin_copy(Accessor who, std::uint32_t address, std::uint32_t bytes);
  void land_copy(Accessor who, std::uint32_t address, const void* from, std::uint32_t bytes);

  void order_lanes(int warp);  // a collective of this warp
  void order_all();            // a barrier of the block

 private:
  static constexpr std::uint32_t kWord = 4;
  struct Stamp {
    std::int16_t warp = -1;
    std::int16_t lane = -1;  // kManyLanes: several
    std::int32_t time = 0;
  };
  struct Word {
    Stamp written;
    std::vector<Stamp> read;  // the last one of every warp that read it since it was written
    bool locked = false;
  };
  static constexpr std::int16_t kManyLanes = 32;

  void check_range(std::uint32_t address, std::uint32_t bytes) const;
  void note_read(Accessor who, std::uint32_t word);
  void note_write(Accessor who, std::uint32_t word);
  bool ordered(const Stamp& before, Accessor now) const;
  [[noreturn]] void race(const char* what, const Stamp& before, Accessor now, std::uint32_t word) const;
  std::int32_t now(int warp) const { return clocks_[static_cast<std::size_t>(warp)][static_cast<std::size_t>(warp)]; }

  std::vector<std::byte> bytes_;
  std::vector<Word> words_;
  std::vector<std::vector<std::int32_t>> clocks_;  // [warp][of warp]: how much of it this warp knows
};

}  // namespace xlstm::emulator
