#pragma once
// Whether all ranks compute with the same weights, and have kept what they have updated.
#include "dist/communicator.h"
#include "train/memory.h"

namespace xlstm {

// A fault of a machine that all ranks see together: rank 0 alone tells it, the program ends with exit code 4.
struct SharedFault : Error {
  using Error::Error;
};

// Of a dense tensor's bytes, 128 bits, 32 hex digits. One on a device comes to the host so many bytes at a time, which
// are in no plan.
std::string checksum(Context& ctx, const Tensor& t, i64 chunk_bytes = i64{16} << 20);

// Between two updates nothing changes a weight. With a shared optimizer, a rank's masters and moments are nowhere else,
// and what it has rounded of them is gathered by all: so each remembers checksums of its share right behind an update,
// and compares them before the next one. The others' copies are compared with the owner's. docs/scaling.md says what
// is seen and what is not.
class ReplicaCheck {
 public:
  ReplicaCheck(Context& ctx, const TrainState& state, Communicator& ranks) : ctx_(ctx), s_(state), ranks_(ranks) {}

  // The weights have just been updated, or loaded. Of this rank's share alone; no collective.
  void remember();

  // Before the next update, on all ranks. SharedFault that names the first tensor that is not as it was, and the rank.
  void compare(i64 step);

 private:
  // What this rank updates: pieces of masters, moments, and of what layers read where that is rounded.
  struct Owned {
    std::string name;
    Tensor values;
  };
  std::vector<Owned> owned() const;
  std::string changed() const;  // the name of the first of them that has changed, or ""
  std::string who_differs(std::size_t tensor, const std::vector<std::string>& hashes) const;
  std::string who_differs_from_owner(std::size_t tensor) const;

  Context& ctx_;
  const TrainState& s_;
  Communicator& ranks_;
  std::vector<std::string> remembered_;
};

}  // namespace xlstm
