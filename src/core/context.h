#pragma once
// What an op needs besides its tensors. There are no globals: device, instruction set, scratch memory and the profile
// all arrive through here.
#include "core/arena.h"
#include "core/cpu_isa.h"
#include "core/profile.h"

namespace xlstm {

struct Context {
  Device device = Device::cpu;
  CpuIsa isa = CpuIsa::baseline;
  Arena* scratch = nullptr;           // required; a measuring arena makes every op skip itself (a dry run)
  Profile* profile = nullptr;         // optional
  OpClass op_class = OpClass::other;  // what a layer is doing now; see ClassScope

  bool dry() const { return scratch->measuring(); }
};

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

}  // namespace xlstm
