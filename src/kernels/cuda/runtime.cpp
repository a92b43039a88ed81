#include "kernels/cuda/runtime.h"

#include <fmt/core.h>
#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/text.h"

namespace xlstm {

void throw_cuda_error(cudaError_t error, const char* what) {
  const char* const text = cudaGetErrorString(error);
  cudaGetLastError();  // told of here: the next launch is not to find it
  switch (error) {
    case cudaErrorMemoryAllocation:
      throw user_error("{}: the GPU has not enough free memory ('xlstm plan' shows where it goes)", what);
    case cudaErrorNoDevice: throw user_error("no GPU: {}; set run.device=cpu", text);
    case cudaErrorInsufficientDriver:
      if (int driver = 0; cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        throw user_error("no NVIDIA driver is loaded; install one, or set run.device=cpu");
      throw user_error("the GPU's driver is too old for CUDA {}.{}; update it, or set run.device=cpu",
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    case cudaErrorNoKernelImageForDevice:
      throw user_error("this program holds no kernels for this GPU; build it with its architecture (XLSTM_CUDA_ARCH)");
    default: throw GpuError(fmt::format("CUDA: {}: {}", what, text));
  }
}

void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw GpuError(fmt::format("cuBLASLt: {}: {}", what, cublasLtGetStatusString(status)));
}

namespace {

constexpr i64 kStagingBytes = i64{8} << 20;

std::string version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

GpuInfo describe(int ordinal) {
  int count = 0;
  check_cuda(cudaGetDeviceCount(&count), "looking for a GPU");
  if (ordinal >= count) throw user_error("there is no GPU number {}; this machine has {}", ordinal, count);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, ordinal), "asking for properties");
  int driver = 0, runtime = 0;
  check_cuda(cudaDriverGetVersion(&driver), "asking for the driver's version");
  check_cuda(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  GpuInfo info{.name = properties.name,
               .driver = version(driver),
               .runtime = version(runtime),
               .architecture = properties.major * 10 + properties.minor,
               .multiprocessors = properties.multiProcessorCount,
               .memory_bytes = static_cast<i64>(properties.totalGlobalMem),
               .shared_bytes = static_cast<i64>(properties.sharedMemPerBlockOptin)};
  if (info.architecture < kOldestArchitecture)
    throw user_error("{} is of compute capability {}.{}; at least {}.{} is needed (A100 and newer); set run.device=cpu",
                     info.name, properties.major, properties.minor, kOldestArchitecture / 10, kOldestArchitecture % 10);
  return info;
}

}  // namespace

CudaGpu::CudaGpu(int ordinal)
    : info_(describe(ordinal)),
      products_{.plans = {}, .choices = {info_.name, fmt::format("cuBLASLt {}", cublasLtGetVersion())}} {
  check_cuda(cudaSetDevice(ordinal), "opening the GPU");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  check_cublas(cublasLtCreate(&blas_), "opening the library");
  workspace = allocate(kWorkspaceBytes);
  void* staging = nullptr;
  if (cudaHostAlloc(&staging, kStagingBytes, cudaHostAllocDefault) != cudaSuccess) {
    cudaGetLastError();
    log_info("the system grants no pinned memory: small copies to and from the GPU take a detour");
  }
  staging_ = static_cast<std::byte*>(staging);
}

CudaGpu::~CudaGpu() {
  if (graph_) cudaGraphExecDestroy(graph_);
  forget_plans();
  if (staging_) cudaFreeHost(staging_);
  if (workspace) cudaFree(workspace);
  if (blas_) cublasLtDestroy(blas_);
  if (stream_) cudaStreamDestroy(stream_);
}

void CudaGpu::forget_plans() {
  for (auto& [key, plan] : products_.plans) {
    cublasLtMatmulDescDestroy(plan.operation);
    for (const auto layout : {plan.a, plan.b, plan.c, plan.z}) cublasLtMatrixLayoutDestroy(layout);
  }
  products_.plans.clear();
}

std::string CudaGpu::time_products(const std::string& kept) {
  std::string elsewhere = kept.empty() ? "" : products_.choices.take(kept);
  forget_plans();
  products_.timed = true;
  return elsewhere;
}

std::string CudaGpu::new_product_choices() {
  return std::exchange(products_.changed, false) ? products_.choices.text() : "";
}

bool CudaGpu::recording() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream_, &status), "asking whether a step is recorded");
  return status != cudaStreamCaptureStatusNone;
}

i64 CudaGpu::available_bytes() const {
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "asking for free memory");
  return static_cast<i64>(free);
}

std::byte* CudaGpu::allocate(i64 bytes) {
  void* data = nullptr;
  const auto size = static_cast<std::size_t>(std::max<i64>(bytes, 1));
  check_cuda(cudaMalloc(&data, size), human_bytes(bytes).c_str());
  check_cuda(cudaMemsetAsync(data, 0, size, stream_), "clearing memory");
  return static_cast<std::byte*>(data);
}

void CudaGpu::release(std::byte* data) noexcept {
  cudaStreamSynchronize(stream_);
  cudaFree(data);
}

bool CudaGpu::pin(std::byte* host, i64 bytes) {
  if (cudaHostRegister(host, static_cast<std::size_t>(bytes), cudaHostRegisterDefault) == cudaSuccess) return true;
  cudaGetLastError();  // not to be found by the next launch
  return false;
}

void CudaGpu::unpin(std::byte* host) noexcept {
  cudaStreamSynchronize(stream_);
  cudaHostUnregister(host);
}

// A place for a small copy that nothing under way uses; null where the copy has to go by itself.
std::byte* CudaGpu::stage(i64 bytes) {
  if (!staging_ || bytes > kStagingBytes) return nullptr;
  if (staged_ + bytes > kStagingBytes) synchronize();
  constexpr i64 kAlignment = 256;
  return staging_ + std::exchange(staged_, staged_ + (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

void CudaGpu::copy_in(std::byte* device, const void* host, i64 bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  if (std::byte* const staged = stage(bytes)) {
    std::memcpy(staged, host, size);
    return check_cuda(cudaMemcpyAsync(device, staged, size, cudaMemcpyHostToDevice, stream_), "copy to the GPU");
  }
  check_cuda(cudaMemcpyAsync(device, host, size, cudaMemcpyHostToDevice, stream_), "copy to the GPU");
  synchronize();  // pageable memory has been read by now; pinned memory has not
}

void CudaGpu::copy_out(void* host, const std::byte* device, i64 bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  std::byte* const staged = stage(bytes);
  check_cuda(cudaMemcpyAsync(staged ? staged : host, device, size, cudaMemcpyDeviceToHost, stream_),
             "copy from the GPU");
  synchronize();
  if (staged) std::memcpy(host, staged, size);
}

double CudaGpu::seconds_of(const std::function<void()>& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check_cuda(cudaEventCreate(&begin), "making an event");
  check_cuda(cudaEventCreate(&end), "making an event");
  check_cuda(cudaEventRecord(begin, stream_), "timing");
  work();
  check_cuda(cudaEventRecord(end, stream_), "timing");
  check_cuda(cudaEventSynchronize(end), "timing");
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "timing");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return 1e-3 * static_cast<double>(milliseconds);
}

void CudaGpu::begin_range(const char* name) { nvtxRangePushA(name); }
void CudaGpu::end_range() { nvtxRangePop(); }

// The first time as it is: the matrix library makes its choices then.
void CudaGpu::repeat(const std::function<void()>& work) {
  if (repetitions_++ == 0) return work();
  if (!graph_) {
    cudaGraph_t recorded = nullptr;
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a step");
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream_, &recorded);
      if (recorded) cudaGraphDestroy(recorded);
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream_, &recorded), "recording a step");
    const cudaError_t error = cudaGraphInstantiate(&graph_, recorded, 0);
    cudaGraphDestroy(recorded);
    check_cuda(error, "recording a step");
  }
  check_cuda(cudaGraphLaunch(graph_, stream_), "repeating a step");
}

void CudaGpu::synchronize() {
  check_cuda(cudaStreamSynchronize(stream_), "waiting for the GPU");
  staged_ = 0;
}

// A launcher may show every rank a GPU of its own, as the only one.
std::unique_ptr<Gpu> open_gpu(int ordinal) {
  int count = 0;
  const bool one = cudaGetDeviceCount(&count) == cudaSuccess && count == 1;
  return std::make_unique<CudaGpu>(one ? 0 : ordinal);
}

}  // namespace xlstm
