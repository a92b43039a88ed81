#pragma once
// What surrounds an op when somebody wants to know about it: a range in a GPU's profiler, its time in the profile, its
// name in an error, its output checked.
#include <functional>

#include "core/context.h"
#include "kernels/cell.h"

namespace xlstm {

class OpScope {
 public:
  static bool needed(const Context& ctx) { return ctx.gpu || ctx.profile || ctx.check_ops; }

  OpScope(Context& ctx, const char* name) : ctx_(ctx), name_(name) {}

  // Errors come out with the op, the layer and the step: "rmsnorm_forward, layer 3, step 17: ...".
  void run(const std::function<void()>& op) const;

  // With check_ops: waits, and throws Error naming the first value of the op's first output that is not finite. Gates
  // may be -inf.
  template <class... Rest>
  void check_output(const Tensor& first, const Rest&...) const {
    check(first);
  }
  template <class... Rest>
  void check_output(const CellInputs& first, const Rest&...) const {
    for (const Tensor& t : {first.q, first.k, first.v}) check(t);
  }
  template <class... Rest>
  void check_output(const Gates&, const Rest&...) const {}

 private:
  void check(const Tensor& t) const;
  std::string where() const;

  Context& ctx_;
  const char* name_;
};

}  // namespace xlstm
