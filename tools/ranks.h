#pragma once
// Commands that mpirun or srun may start many times at once.
#include "dist/communicator.h"

namespace xlstm {

// Does `work` with the ranks that this process is one of. They end together: with the same exit code where they know it
// together (ExitCode, SharedError, SharedFault); a rank that fails alone ends the job at once and is named.
void with_ranks(const std::function<void(Communicator&)>& work);

}  // namespace xlstm
