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

  // For the profile.
  template <class... Args>
  void count_bytes(const Args&... args) const {
    if (ctx_.profile) ctx_.profile->add_bytes(ctx_.op_class, static_cast<double>((i64{0} + ... + bytes_of(args))));
  }

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
  static i64 bytes_of(const Tensor& t) { return t.bytes(); }
  static i64 bytes_of(const Gates& g) { return g.i.bytes() + g.f.bytes(); }
  static i64 bytes_of(const CellInputs& in) { return in.q.bytes() + in.k.bytes() + in.v.bytes() + bytes_of(in.log); }
  static i64 bytes_of(const CellStats& s) { return s.denominator.bytes() + s.max.bytes(); }
  static i64 bytes_of(const CellState& s) { return s.c.bytes() + s.n.bytes() + s.m.bytes(); }
  template <class Number>
  static i64 bytes_of(const Number&) {
    return 0;
  }
  void check(const Tensor& t) const;
  std::string where() const;

  Context& ctx_;
  const char* name_;
};

}  // namespace xlstm
