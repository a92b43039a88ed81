// Every instantiation of the portable kernels (sm_80 and newer): the widths of kScanWidths, the four passes.
#include "kernels/cuda/mlstm/cell_passes.h"

namespace xlstm::mlstm {

#define XL_SCAN(width)                                             \
  template __global__ void scan<width, Pass::forward>(const Scan); \
  template __global__ void scan<width, Pass::dq>(const Scan);      \
  template __global__ void scan<width, Pass::dk>(const Scan);      \
  template __global__ void scan<width, Pass::dv>(const Scan);
XL_SCAN(64)
XL_SCAN(128)
XL_SCAN(192)
XL_SCAN(256)
XL_SCAN(384)
XL_SCAN(512)
#undef XL_SCAN

}  // namespace xlstm::mlstm
