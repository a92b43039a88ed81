#pragma once
// The algorithms of a run's matrix products on a GPU, in a file: their bits are the run's, so it goes on with the ones
// that it began with.
#include <string>

#include "core/file.h"
#include "core/gpu.h"

namespace xlstm {

class KeptAlgorithms {
 public:
  // Tells the device to time products, and gives it what the file holds. UserError naming a file that is damaged; a
  // warning where it was made for another device.
  KeptAlgorithms(Gpu& gpu, fs::path file);

  // Writes what was chosen since the last call. A file that cannot be written does not end a run: the next call tries
  // again.
  void keep();

 private:
  Gpu& gpu_;
  fs::path file_;
  std::string unwritten_;
};

}  // namespace xlstm
