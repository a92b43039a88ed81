// Tensor maps by the driver, which is asked for the function: the program is not linked with it.
#include "kernels/cuda/tensor_map.h"

#if defined(__CUDACC__)
#include "core/gpu.h"
#include "kernels/cuda/check.h"

namespace xlstm::gpu {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encode_function() {
  static const Encode function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
               "asking the driver for tensor maps");
    if (result != cudaDriverEntryPointSuccess || found == nullptr)
      throw GpuError("CUDA: the driver knows no tensor maps; update it, or set run.cell_kernel=portable");
    return reinterpret_cast<Encode>(found);
  }();
  return function;
}

}  // namespace

dialect::TensorMap make_tensor_map(const BoxedTensor& t) {
  XL_CHECK(reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0 && t.row_stride % 8 == 0 && t.plane_stride % 8 == 0,
           "a tensor whose rows are not aligned to 16 bytes (stride {})", t.row_stride);
  dialect::TensorMap map{};
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(t.columns), static_cast<cuuint64_t>(t.rows),
                               static_cast<cuuint64_t>(t.planes)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(t.row_stride) * 2,
                                 static_cast<cuuint64_t>(t.plane_stride) * 2};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(t.box_rows), 1}, steps[3] = {1, 1, 1};
  const CUresult result = encode_function()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, t.data, sizes, strides, box,
                                            steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw GpuError(fmt::format("CUDA: a tensor map of ({}, {}, {}), strides {} and {}: error {}", t.planes, t.rows,
                               t.columns, t.plane_stride, t.row_stride, static_cast<int>(result)));
  return map;
}

}  // namespace xlstm::gpu
#endif
