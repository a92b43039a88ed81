// Which communicator a process gets: what its launcher says in the environment decides.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "dist/communicator.h"
#ifdef XLSTM_MPI
#include "dist/library_limit.h"
#include "dist/mpi.h"
#endif

namespace xlstm {

namespace {

// How many processes the launcher has started; "" for none that we know of. SLURM_STEP_NUM_TASKS is srun's.
std::string launched() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* size = std::getenv(variable);
    if (size && std::string(size) != "1") return size;
  }
  return "";
}

#ifdef XLSTM_MPI
// srun that has no way for its processes to find each other; the library would end the process, and say much.
bool plain_srun() {
  const std::array ways{"PMIX_RANK", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_RANK"};
  return std::getenv("SLURM_STEP_NUM_TASKS") &&
         std::none_of(ways.begin(), ways.end(), [](const char* way) { return std::getenv(way) != nullptr; });
}

UserError strangers(const std::string& several) {
  return user_error(
      "started as one of {} processes that do not know of each other: mpirun of another MPI than the program was "
      "built with, or srun without it ('srun --mpi=pmix' for Open MPI)",
      several);
}

// Until all processes know of each other nobody watches: the library itself waits for ever for one that does not come.
// As long as SLURM's PMIx lets hosts come one after the other (PMIxTimeout).
constexpr double kStartSeconds = 300;  // parallel.timeout is not known yet
constexpr const char* kNotStarted = "not all processes of this run have started";
#endif

}  // namespace

void expect_one_process(const std::string& command) {
  if (const std::string several = launched(); !several.empty())
    throw user_error("'{}' works as one process, and was started as one of {}; run it without mpirun or srun", command,
                     several);
}

std::unique_ptr<Communicator> make_communicator() {
  const std::string several = launched();
  if (several.empty()) return make_single_process_communicator();
#ifdef XLSTM_MPI
  if (plain_srun()) throw strangers(several);
  auto ranks = [] {
    const LibraryLimit limit(kStartSeconds, kNotStarted, "one on another host, or that host, hangs");
    return make_mpi_communicator();
  }();
  if (ranks->size() == 1) {
    ranks->end();
    throw strangers(several);
  }
  return ranks;
#else
  throw user_error(
      "started as one of {} processes, but this program was built without MPI (scripts/install_dependencies.sh "
      "installs it, then build again); or run it without mpirun",
      several);
#endif
}

#ifndef XLSTM_MPI
std::string mpi_version() { return ""; }
#endif

}  // namespace xlstm
