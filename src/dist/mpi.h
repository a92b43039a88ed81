#pragma once
// The ranks of mpirun or srun, over MPI on host memory. Only in a build with MPI (XLSTM_MPI).
#include "dist/communicator.h"

namespace xlstm {

std::unique_ptr<Communicator> make_mpi_communicator();

}  // namespace xlstm
