#pragma once
// Commands that mpirun or srun may start many times at once.
#include "dist/communicator.h"
#include "train/config.h"

namespace xlstm {

// Does `work` of `command` with the ranks that this process is one of. They end together: with the same exit code where
// they know it together (ExitCode, SharedError, SharedFault); a rank that fails alone ends the job at once and is
// named. Ranks of another command do not fit.
void with_ranks(const char* command, const std::function<void(Communicator&)>& work);

// load_train_config on all ranks; launchers give stdin to rank 0 alone, which passes on what '-' stands for.
TrainConfig load_config_on_all(Communicator& ranks, const std::string& path,
                               const std::vector<std::string>& assignments);

}  // namespace xlstm
