// Which communicator a process gets: what its launcher says in the environment decides.
#include <cstdlib>
#include <string>

#include "dist/communicator.h"
#ifdef XLSTM_MPI
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

}  // namespace

std::unique_ptr<Communicator> make_communicator() {
  const std::string several = launched();
  if (several.empty()) return make_single_process_communicator();
#ifdef XLSTM_MPI
  auto ranks = make_mpi_communicator();
  if (ranks->size() == 1) {
    ranks->end();
    throw user_error(
        "started as one of {} processes that do not know of each other: mpirun of another MPI than the program was "
        "built with, or srun without it ('srun --mpi=pmix' for Open MPI)",
        several);
  }
  return ranks;
#else
  throw user_error(
      "started as one of {} processes, but this program was built without MPI (scripts/install_dependencies.sh "
      "installs "
      "it, then build again); or run it without mpirun",
      several);
#endif
}

#ifndef XLSTM_MPI
std::string mpi_version() { return ""; }
#endif

}  // namespace xlstm
