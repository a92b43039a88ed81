#pragma once
// Errors of the CUDA libraries as exceptions.
#include <cuda_runtime_api.h>

#include "core/check.h"

namespace xlstm {

[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what);

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) [[unlikely]]
    throw_cuda_error(error, what);
}

}  // namespace xlstm
