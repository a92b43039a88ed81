#pragma once
// What an op needs besides its tensors. There are no globals: device, instruction set, scratch memory and the profile
// all arrive through here.
#include <cstring>

#include "core/arena.h"
#include "core/cpu_isa.h"
#include "core/gpu.h"
#include "core/profile.h"

namespace xlstm {

class PackedWeights;

struct Context {
  Device device = Device::cpu;
  CpuIsa isa = CpuIsa::baseline;
  Gpu* gpu = nullptr;  // required on Device::cuda
  CellKernel cell_kernel = CellKernel::automatic;
  Arena* scratch = nullptr;           // required; a measuring arena makes every op skip itself (a dry run)
  Profile* profile = nullptr;         // optional
  PackedWeights* packed = nullptr;    // optional, for products on AMX (kernels/packed_weights.h)
  bool check_ops = false;             // run.check=full: every op waits, and what it wrote and read has to be finite
  i64 layer = -1, step = -1;          // where the run is, for errors
  OpClass op_class = OpClass::other;  // what a layer is doing now; see ClassScope

  bool dry() const { return scratch->measuring(); }
};

// Between host memory and a dense tensor, in the stream's order. Skipped in a dry run, like the ops.
inline void upload(Context& ctx, Tensor to, const void* from) {
  if (ctx.dry() || to.size() == 0) return;
  XL_CHECK(to.dense(), "only a dense tensor can be copied");
  if (to.device == Device::cuda) return ctx.gpu->copy_in(to.data, from, to.bytes());
  std::memcpy(to.data, from, static_cast<std::size_t>(to.bytes()));
}
inline void download(Context& ctx, void* to, Tensor from) {
  if (ctx.dry() || from.size() == 0) return;
  XL_CHECK(from.dense(), "only a dense tensor can be copied");
  if (from.device == Device::cuda) return ctx.gpu->copy_out(to, from.data, from.bytes());
  std::memcpy(to, from.data, static_cast<std::size_t>(from.bytes()));
}

// Ops called inside this scope are accounted to `c`.
class ClassScope {
 public:
  ClassScope(Context& ctx, OpClass c) : ctx_(ctx), before_(ctx.op_class) { ctx.op_class = c; }
  ~ClassScope() { ctx_.op_class = before_; }
  ClassScope(const ClassScope&) = delete;
  ClassScope& operator=(const ClassScope&) = delete;

 private:
  Context& ctx_;
  OpClass before_;
};

// Ops called inside this scope belong to layer `number`.
class LayerScope {
 public:
  LayerScope(Context& ctx, std::size_t number) : ctx_(ctx) { ctx.layer = static_cast<i64>(number); }
  ~LayerScope() { ctx_.layer = -1; }
  LayerScope(const LayerScope&) = delete;
  LayerScope& operator=(const LayerScope&) = delete;

 private:
  Context& ctx_;
};

}  // namespace xlstm
