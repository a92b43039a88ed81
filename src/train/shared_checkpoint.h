#pragma once
// Checkpoints of several ranks. The files are those of one rank, to the byte: tensors are whole, and each rank writes
// its pieces at their places. Ranks talk over Channel::saving, so that training goes on meanwhile.
#include "train/checkpoint_store.h"

namespace xlstm {

// Writes into an empty folder that is there. Every rank writes and syncs its content.pieces; what lies on the disk is
// read back, each tensor by one rank, and held against checksums that the writers took from their memory; when all
// agree, rank 0 writes the manifest. UserError on all ranks, with the one that failed. Returns the bytes of the
// checkpoint, on rank 0.
i64 write_checkpoint_together(const fs::path& folder, const CheckpointContent& content, Communicator& ranks);

// load_newest_checkpoint of several ranks: rank 0's list of folders counts; each rank checks its part of the tensors,
// and one that any of them finds damaged is skipped by all.
std::optional<LoadedCheckpoint> load_newest_together(const fs::path& path, const LoadTarget& target,
                                                     Communicator& ranks);

}  // namespace xlstm
