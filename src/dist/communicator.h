#pragma once
// The ranks of one run. Virtual because a step makes a handful of these calls; ops, of which it makes thousands, are
// not.
#include <memory>

#include "core/tensor.h"

namespace xlstm {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void barrier() = 0;
};

// One process: every call is trivial. Refuses to start (UserError) as one of several processes of mpirun or srun, which
// would otherwise all train the same model into the same folder.
std::unique_ptr<Communicator> make_single_process_communicator();

}  // namespace xlstm
