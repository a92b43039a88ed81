#pragma once
// How a kernel of sm_90a is told of a tensor that it moves in boxes of 64 columns (dialect_hopper.h).
#include "kernels/cuda/dialect_hopper.h"

namespace xlstm::gpu {

struct BoxedTensor {
  bf16* data = nullptr;                            // aligned to 16 bytes
  std::int64_t columns = 0, rows = 0, planes = 0;  // what lies outside is read as zero and not written
  std::int64_t row_stride = 0, plane_stride = 0;   // elements; multiples of 8
  int box_rows = 64;
};

#if defined(__CUDACC__)
dialect::TensorMap make_tensor_map(const BoxedTensor& t);  // tensor_map.cu
#else
inline dialect::TensorMap make_tensor_map(const BoxedTensor& t) {
  return {t.data, t.columns, t.rows, t.planes, t.row_stride, t.plane_stride, t.box_rows};
}
#endif

}  // namespace xlstm::gpu
