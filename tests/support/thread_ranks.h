#pragma once
// Ranks that are threads of one process: the same calls as those of real ones, over copies in memory.
#include <functional>
#include <memory>
#include <vector>

#include "dist/communicator.h"

namespace xlstm {

// Runs `body` once per rank, each in a thread of its own, and returns what each threw ("" for nothing). A rank that
// throws takes the others with it, as a process would.
// One at a time: only while a rank waits for the others another one goes on, for what threads cannot share.
enum class Turns { together, one_at_a_time };
std::vector<std::string> run_ranks(int size, const std::function<void(Communicator&)>& body,
                                   Turns turns = Turns::together);

// What a rank would tell its watchdog of the device.
Communicator::DeviceWait ask_device(const Communicator& rank);

}  // namespace xlstm
