#include <cstdlib>
#include <string>

#include "dist/communicator.h"

namespace xlstm {

namespace {

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_single_process_communicator() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE"}) {
    const char* size = std::getenv(variable);
    if (size && std::string(size) != "1")
      throw user_error("started as one of {} processes, but this program was built for one; run it without mpirun",
                       size);
  }
  return std::make_unique<SingleProcess>();
}

}  // namespace xlstm
