#pragma once
// What stands behind Device::cuda: one device, its memory, and one stream on which everything runs in order. A program
// that is linked with a back end has open_gpu(); without one it is null. The tests' emulator is a back end, too.
#include <array>
#include <functional>
#include <memory>
#include <string>

#include "core/tensor.h"

namespace xlstm {

// Which CUDA kernel computes the cell (docs/kernels.md). automatic: the fastest that takes this head.
//   recurrent   token by token in f32: any head up to 1,024 wide, any type
//   portable    chunks on tensor cores (mma.sync): bf16, heads up to 512 wide, multiples of 8
//   wgmma       the same on an sm_90 (H100, H200): bf16, q and k 64, 128, 192 or 256 wide, v also 384 or 512
//   wgmma_no_cluster   wgmma, but no CTA takes what another has loaded
enum class CellKernel : std::uint8_t { automatic, recurrent, portable, wgmma, wgmma_no_cluster };
constexpr auto names_of(CellKernel) { return std::array{"auto", "recurrent", "portable", "wgmma", "wgmma_no_cluster"}; }
constexpr bool uses_wgmma(CellKernel k) { return k == CellKernel::wgmma || k == CellKernel::wgmma_no_cluster; }

struct GpuInfo {
  std::string name;
  std::string driver, runtime;  // versions
  int architecture = 0;         // 90 for sm_90
  int multiprocessors = 0;      // SMs
  i64 memory_bytes = 0;
  i64 shared_bytes = 0;  // of shared memory that a CTA may have
};
// What is planned with where no GPU is asked.
constexpr i64 kHopperSharedBytes = 227 << 10;
constexpr int kHopperArchitecture = 90;

// A fault of the device or its libraries. In a run it may have begun in an earlier op than the one that tells of it.
struct GpuError : Error {
  using Error::Error;
};

// Every member throws UserError where the machine lacks something (memory, a driver), GpuError otherwise.
class Gpu {
 public:
  virtual ~Gpu() = default;
  virtual const GpuInfo& info() const = 0;
  virtual i64 available_bytes() const = 0;

  virtual std::byte* allocate(i64 bytes) = 0;  // zeroed, 256-byte aligned
  virtual void release(std::byte* data) noexcept = 0;

  // Locks host memory in its place, so that copies between it and the device take no detour; false where that is
  // refused. Unlocked before it is given back.
  virtual bool pin(std::byte* /*host*/, i64 /*bytes*/) { return false; }
  virtual void unpin(std::byte* /*host*/) noexcept {}

  // In the stream's order; host memory may be used again when they return.
  virtual void copy_in(std::byte* device, const void* host, i64 bytes) = 0;
  virtual void copy_out(void* host, const std::byte* device, i64 bytes) = 0;

  // Waits for everything that was launched; what went wrong in it is thrown here.
  virtual void synchronize() = 0;
  virtual void* stream() const = 0;

  // How long the device takes for what `work` launches, by its own clock.
  virtual double seconds_of(const std::function<void()>& work) = 0;

  // Names for a profiler, nested.
  virtual void begin_range(const char* name) = 0;
  virtual void end_range() = 0;

  // Does what `work` does. Where it can, it records the launches once and repeats them: so they must be the same from
  // call to call, and `work` may do nothing else.
  virtual void repeat(const std::function<void()>& work) = 0;

  // A matrix product gets the algorithm that the library proposes first. From this call on it gets the fastest of the
  // library's proposals, which are timed when it first comes up. `kept` is what an earlier process of this run got from
  // new_product_choices(), or "": its choices are taken over. The answer names the devices and versions that they were
  // made for if these are others; "" otherwise.
  virtual std::string time_products(const std::string& /*kept*/) { return ""; }
  // All choices as text, if there are some since the last call; "" otherwise.
  virtual std::string new_product_choices() { return ""; }

  // What ops share for the time of one call each: partial sums, and the matrix library's own memory.
  std::byte* workspace = nullptr;
  static constexpr i64 kWorkspaceBytes = i64{64} << 20;
};

[[gnu::weak]] std::unique_ptr<Gpu> open_gpu(int ordinal);
inline bool has_gpu_back_end() { return &open_gpu != nullptr; }

}  // namespace xlstm
