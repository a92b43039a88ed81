#pragma once
// What all ranks of a run must have in common, told to each other before anything is made.
#include "dist/communicator.h"
#include "train/config.h"
#include "train/machine.h"

namespace xlstm {

// Facts by name: "data.train" -> a fingerprint. SharedError that names the first fact and the first rank that differ
// from rank 0.
using Facts = std::map<std::string, std::string>;
void agree(Communicator& ranks, const Facts& mine);

// Every key of a config that is not a rank's own business.
Facts facts_of(const TrainConfig& cfg);
Facts facts_of_program();  // version, and which build
Facts facts_of(const Machine& machine);

// This rank's device: none where another rank has none, and all of one kind.
Machine open_machine(Communicator& ranks, const RunConfig& run);

// Threads of this rank: the config's, or its share of the cores that it may use with other ranks of its host. Warns of
// more than that.
int threads_of_rank(Communicator& ranks, i64 configured);

}  // namespace xlstm
