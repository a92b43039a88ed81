// A program built without MPI, under mpirun: its launcher compiled once more, under other names.
#include <gmock/gmock.h>

#include <cstdlib>

#undef XLSTM_MPI
#define make_communicator make_communicator_without_mpi
#define expect_one_process expect_one_process_without_mpi
#define mpi_version mpi_version_without_mpi
#include "dist/launcher.cpp"  // NOLINT(bugprone-suspicious-include)

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(WithoutMpi, OneOfSeveralProcessesIsRefused) {
  for (const char* launched : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    setenv(launched, "4", /*replace=*/1);
    EXPECT_THAT([] { make_communicator(); },
                ThrowsMessage<UserError>(AllOf(HasSubstr("one of 4 processes"), HasSubstr("built without MPI"))))
        << launched;
    unsetenv(launched);
  }
}

TEST(WithoutMpi, OneProcessIsARunOfOne) {
  EXPECT_EQ(make_communicator()->size(), 1);
  setenv("OMPI_COMM_WORLD_SIZE", "1", /*replace=*/1);  // mpirun -np 1
  EXPECT_EQ(make_communicator()->size(), 1);
  unsetenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(mpi_version(), "");
}

}  // namespace
}  // namespace xlstm
