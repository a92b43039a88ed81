#pragma once
// What surrounds an op when somebody wants to know about it: a range in a GPU's profiler, its time in the profile, its
// name in an error, its output checked.
#include <functional>

#include "core/context.h"
#include "kernels/cell.h"

namespace xlstm {

// Behind the message of a GpuError whose op is not sure.
inline constexpr const char* kAskForCheck = "; run.check=full finds the op that is at fault, if it was an earlier one";

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

  // With check_ops: waits, and throws Error naming the first value that is not finite, of all that the op writes and
  // reads. A forget gate's logarithm and a maximum may be -inf, the numbers of an update (f64) inf; workspaces, which
  // stand behind a CellShape, hold anything.
  template <class... Args>
  void check_values(const Args&... args) const {
    if (!ctx_.check_ops) return;
    Checked seen;
    (check_next(seen, args), ...);
  }

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
  struct Checked {
    int arguments = 0;
    bool at_workspace = false;
  };
  void check_next(Checked& seen, const Tensor& t) const {
    ++seen.arguments;
    if (!seen.at_workspace) check(t, seen.arguments);
  }
  void check_next(Checked& seen, const Gates& g) const { check(g.i, ++seen.arguments); }
  void check_next(Checked& seen, const CellInputs& in) const {
    ++seen.arguments;
    for (const Tensor& t : {in.q, in.k, in.v, in.log.i}) check(t, seen.arguments);
  }
  void check_next(Checked& seen, const CellStats& s) const { check(s.denominator, ++seen.arguments); }
  void check_next(Checked& seen, const CellState& s) const {
    ++seen.arguments;
    for (const Tensor& t : {s.c, s.n}) check(t, seen.arguments);
  }
  void check_next(Checked& seen, const CellShape&) const { seen.at_workspace = true; }
  template <class Number>
  void check_next(Checked& seen, const Number&) const {
    ++seen.arguments;
  }
  void check(const Tensor& t, int argument) const;
  std::string where() const;

  Context& ctx_;
  const char* name_;
};

}  // namespace xlstm
