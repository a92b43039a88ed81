#pragma once
// Saves checkpoints in the background: training waits only while its tensors are copied. A save that fails (a full
// disk, say) is logged and training goes on; the next save tries again.
#include <future>

#include "core/context.h"
#include "train/checkpoint_store.h"

namespace xlstm {

// The bytes of the copy that a background save works from. Tensors may be measured ones, without data.
i64 snapshot_bytes(const CheckpointContent& content);

struct SaveReport {
  i64 step = 0, bytes = 0;
  double seconds_blocked = 0;  // waiting for the save before, and copying
  double seconds_writing = 0;  // in the background: hashing, writing, syncing, reading back, rotating
  std::string error{};         // empty when the checkpoint is on the disk
};

class CheckpointWriter {
 public:
  // Makes the folder, and clears it of what a killed process has left. `snapshot` holds snapshot_bytes() of host
  // memory; tensors are read through `ctx`. With several ranks, all of them make the same calls.
  CheckpointWriter(Context& ctx, fs::path dir, Rotation rotation, Arena snapshot, Communicator* ranks = nullptr);
  ~CheckpointWriter();  // waits for the save under way
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Waits for the save before, copies, and returns; never throws for what the disk does.
  void save(const CheckpointContent& content);

  // Saves without a copy, where the tensors are in host memory, and returns when all is on the disk. For the end of a
  // run and for signals: throws UserError on failure.
  SaveReport save_now(const CheckpointContent& content);

  // Into an empty folder that is there, which is none of the run's checkpoints: at once, and out of the way of the save
  // before. UserError on failure.
  void save_aside(const fs::path& folder, const CheckpointContent& content);

  void wait();                                                        // for the save under way
  std::optional<SaveReport> poll();                                   // of the last save that ended since the last call
  const std::string& last_error() { return collect(), last_error_; }  // empty when the last save that ended worked

 private:
  void collect();  // the result of a save that has ended
  CheckpointContent copy(const CheckpointContent& from);

  Context& ctx_;
  fs::path dir_;
  Rotation rotation_;
  Arena snapshot_;
  Communicator* ranks_;
  std::future<SaveReport> under_way_;
  std::optional<SaveReport> report_;
  std::string last_error_;
};

}  // namespace xlstm
