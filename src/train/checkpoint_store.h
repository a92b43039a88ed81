#pragma once
// The folder of a run's checkpoints: step_00001000/, step_00002000/, ... and LATEST, a text file with the newest name,
// and BEST, with the name of the one whose evaluation was best.
//
// A folder named step_... is whole: it was written aside (step_... .tmp-write), fsynced, read back and verified before
// it got its name. LATEST is a hint for people and scripts; nothing here depends on it. One process at a time may save
// into the folder (the trainer holds the run's lock); any number may read meanwhile.
#include <limits>
#include <optional>

#include "dist/communicator.h"
#include "train/checkpoint.h"

namespace xlstm {

// What stays: the newest `keep` checkpoints, and every one whose step is a multiple of `keep_every` (0: none).
struct Rotation {
  i64 keep = 3;
  i64 keep_every = 0;
};

// Which of these steps go after `saved` has been written and verified. `saved` itself never goes, nor does any later
// step: that is a damaged one which the run went past, and will be replaced when the run gets there again.
// `pinned` ones stay, too, beside those that the rotation keeps.
std::vector<i64> steps_to_remove(std::vector<i64> steps, const Rotation& rotation, i64 saved,
                                 const std::vector<i64>& pinned = {});

// Saves and rotates. On failure (UserError) nothing of it is left on the disk and the older ones are untouched; that
// LATEST or the rotation failed is a warning alone, since the checkpoint is whole by then and the next save tries
// again. Returns the bytes written. With several ranks all of them save together (train/shared_checkpoint.h).
i64 save_checkpoint(const fs::path& dir, const CheckpointContent& content, const Rotation& rotation,
                    Communicator* ranks = nullptr);

// Removes what a process that was killed while it saved or rotated has left, and gives a checkpoint that it had moved
// aside its name back. For the one process that saves.
void remove_leftovers(const fs::path& dir);

// Of a run that went back to `step`: the checkpoints beyond it, of a past that is none any more. For the one process
// that saves; a failure is a warning, since these steps are made again.
void remove_checkpoints_after(const fs::path& dir, i64 step);

// BEST names that step's checkpoint from now on; a failure is a warning. For the one process that saves.
void mark_best(const fs::path& dir, i64 step);
bool has_checkpoint(const fs::path& dir, i64 step);

// "no checkpoint in ...", for whoever cannot go on without one.
UserError no_checkpoint(const fs::path& path);

// Checkpoints, newest first. `path` is a run directory, its folder of checkpoints, one checkpoint, or the file LATEST
// or BEST that names one.
std::vector<fs::path> list_checkpoints(fs::path path);
std::vector<fs::path> list_checkpoints(const fs::path& path, i64 up_to_step);

// What a checkpoint is to be read into.
struct LoadTarget {
  std::vector<NamedTensor> params{}, optimizer{};  // memory that is there already
  bool with_optimizer = true;                      // false: weights only
  std::function<void(const Json& state)>
      check_state{};        // optional: throws UserError when the checkpoint is of another run
  bool shared_out = false;  // `pieces` alone are read, if any; the lists hold names and shapes
  std::vector<TensorPiece> pieces{};
  i64 up_to_step = std::numeric_limits<i64>::max();  // later ones are not there
};

struct LoadedCheckpoint {
  fs::path folder;
  i64 step = 0;
  Json state;
  std::string weights_sha256;
  std::vector<std::string> skipped;  // newer checkpoints that are damaged, and how; each was logged as a warning
};

// Reads the newest checkpoint that verifies. Nothing when there is none at all; UserError when there are some and all
// are damaged (a run must not start again unasked), or when the newest whole one is of another model or run.
// With several ranks all of them take the same one.
std::optional<LoadedCheckpoint> load_newest_checkpoint(const fs::path& path, const LoadTarget& target,
                                                       Communicator* ranks = nullptr);

// For ranks that look for one together: what is said when none of these can be used, and of a LATEST that names none.
UserError none_verifies(const fs::path& path, const std::vector<std::string>& skipped);
void check_latest(const fs::path& dir, const fs::path& newest);

// The newest checkpoint whose manifest, state and headers are whole; UserError when there is none.
// Which ones were skipped is told unless a later load does.
enum class Skipped : std::uint8_t { told, not_told };
CheckpointReader open_newest_checkpoint(const fs::path& path, Skipped report = Skipped::told);

}  // namespace xlstm
