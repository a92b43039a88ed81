// What the machine offers: every fact is there, and the numbers are measured.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using Doctor = CliTest;
using testing::HasSubstr;

TEST_F(Doctor, TellsWhatIsThere) {
  const Json j = must_run({"doctor", "--json"}).json();
  EXPECT_GT(j.at("cores").get<int>(), 0);
  EXPECT_GT(j.at("memory_available_bytes").get<double>(), 1e8);
  EXPECT_GT(j.at("gemm_flops").get<double>(), 1e8);
  EXPECT_GT(j.at("copy_bytes_per_second").get<double>(), 1e7);
  EXPECT_TRUE(j.at("gpus").is_array());
  EXPECT_FALSE(j.at("processor").get<std::string>().empty());
  for (const char* key : {"nvidia_driver", "nvcc", "mpirun", "disk_available_bytes", "instruction_set", "onednn"})
    EXPECT_TRUE(j.contains(key)) << key;
  EXPECT_FALSE(j.at("advice").empty());
  const Json& sets = j.at("instruction_sets");
  EXPECT_EQ(sets.at(j.at("instruction_set").get<std::string>()), "usable");
  EXPECT_TRUE(sets.at("amx") == "usable" || j.at("instruction_set") != "amx") << sets;

  const std::string text = must_run({"doctor"}).out;
  for (const char* row :
       {"processor", "kernels", "memory", "disk", "GPUs", "MPI", "NCCL", "matrix products", "GF/s", "note"})
    EXPECT_THAT(text, HasSubstr(row));
}

}  // namespace
}  // namespace xlstm
