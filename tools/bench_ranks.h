#pragma once
// What several ranks cost: a step with the exact and with the fast reduction, and the same work by one rank alone.
#include "data/loader.h"
#include "dist/communicator.h"
#include "dist/sharding.h"
#include "tools/bench.h"
#include "train/machine.h"

namespace xlstm {

// The batch of `cfg` is that of all ranks. Every rank calls it; the result is rank 0's.
BenchResult bench_ranks(const TrainConfig& cfg, i64 steps, i64 warmup, const Machine& machine, Communicator& ranks);

// One update's random tokens of a config: this rank's part.
TokenBatch random_batch(const TrainConfig& cfg, Ranks ranks);

}  // namespace xlstm
