#pragma once
// The device as CUDA sees it: one context, one stream, the matrix library's handle and its choices.
#include <cublasLt.h>

#include <map>

#include "core/gpu.h"
#include "kernels/cuda/check.h"

namespace xlstm {

// What a product looks like to the matrix library. Equal ones get the same algorithm.
struct ProductKey {
  i64 m, n, k, lda, ldb, ldc, ldz;
  int type_in, type_out;
  bool transpose_a, transpose_b;
  bool plus_z;                                             // c = z + a b, with z being c where it accumulates
  int alignment_a, alignment_b, alignment_c, alignment_z;  // of the addresses, in bytes, at most 256
  auto operator<=>(const ProductKey&) const = default;     // NOLINT(modernize-use-nullptr): a fault of the check
};

struct ProductPlan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, z = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

class CudaGpu final : public Gpu {
 public:
  explicit CudaGpu(int ordinal);  // UserError that names what is missing: a device, a driver, an architecture
  ~CudaGpu() override;
  CudaGpu(const CudaGpu&) = delete;
  CudaGpu& operator=(const CudaGpu&) = delete;

  const GpuInfo& info() const override { return info_; }
  i64 available_bytes() const override;
  std::byte* allocate(i64 bytes) override;
  void release(std::byte* data) noexcept override;
  void copy_in(std::byte* device, const void* host, i64 bytes) override;
  void copy_out(void* host, const std::byte* device, i64 bytes) override;
  void synchronize() override;
  void* stream() const override { return stream_; }
  double seconds_of(const std::function<void()>& work) override;
  void begin_range(const char* name) override;
  void end_range() override;
  void repeat(double key, const std::function<void()>& work) override;

  cublasLtHandle_t blas() const { return blas_; }
  std::map<ProductKey, ProductPlan> plans;  // kept by matmul.cpp

 private:
  GpuInfo info_;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;  // of what repeat() was given last
  double graph_key_ = 0;
  int repetitions_ = 0;
};

// Oldest device that the kernels are compiled for.
constexpr int kOldestArchitecture = 80;

void check_cublas(cublasStatus_t status, const char* what);

}  // namespace xlstm
