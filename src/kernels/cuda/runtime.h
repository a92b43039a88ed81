#pragma once
// The device as CUDA sees it: one context, one stream, the matrix library's handle and its choices.
#include <cublasLt.h>

#include <map>

#include "core/gpu.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/product_choice.h"

namespace xlstm {

// A product as the library is asked for it.
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
  bool pin(std::byte* host, i64 bytes) override;
  void unpin(std::byte* host) noexcept override;
  void copy_in(std::byte* device, const void* host, i64 bytes) override;
  void copy_out(void* host, const std::byte* device, i64 bytes) override;
  void synchronize() override;
  void* stream() const override { return stream_; }
  double seconds_of(const std::function<void()>& work) override;
  void begin_range(const char* name) override;
  void end_range() override;
  void repeat(const std::function<void()>& work) override;

  std::string time_products(const std::string& kept) override;
  std::string new_product_choices() override;

  cublasLtHandle_t blas() const { return blas_; }
  bool recording() const;  // launches go into a graph and nothing runs

  struct Products {  // what matmul.cpp keeps
    std::map<ProductKey, ProductPlan> plans;
    ProductChoices choices;
    bool timed = false, changed = false;
  };
  Products& products() { return products_; }

 private:
  void forget_plans();
  std::byte* stage(i64 bytes);

  GpuInfo info_;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;  // of what repeat() was given last
  int repetitions_ = 0;
  Products products_;
  std::byte* staging_ = nullptr;  // pinned host memory that small copies go through, in turn
  i64 staged_ = 0;                // of its bytes, since the stream was last waited for
};

// Oldest device that the kernels are compiled for.
constexpr int kOldestArchitecture = 80;

void check_cublas(cublasStatus_t status, const char* what);

}  // namespace xlstm
