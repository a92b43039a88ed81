#pragma once
// A parameter's facts are written once, where it is born: name, shape, initialisation, weight decay.
#include <string>
#include <vector>

#include "core/arena.h"

namespace xlstm {

struct Param {
  Tensor value, grad;
};

// How a parameter starts (spec §6.1). `a` and `b`: constant(a); normal(std a); linspace(a..b over the elements).
struct Init {
  enum class Kind : std::uint8_t { constant, normal, linspace } kind = Kind::constant;
  double a = 0, b = 0;
  static Init zeros() { return {Kind::constant, 0, 0}; }
  static Init ones() { return {Kind::constant, 1, 0}; }
  static Init constant(double value) { return {Kind::constant, value, 0}; }
  static Init normal(double std) { return {Kind::normal, std, 0}; }
  static Init linspace(double from, double to) { return {Kind::linspace, from, to}; }
};

struct ParamInfo {
  std::string name;  // as in the xlstm package's state dict (spec §10.2)
  Param param;
  Init init;
  bool decay = false;

  // Norms and biases are vectors, (1, n), and never decay. What decays is a matrix, also one of a single row.
  bool is_matrix() const { return decay || param.value.rows > 1; }
};

// One part of a fused matrix: the parts lie under each other, so that one product computes them all, and each keeps
// its own name, initialisation and place in a checkpoint.
struct ParamPart {
  std::string name;
  i64 rows;
  Init init;
};

// Where parameters are born. All values lie in one allocation and all gradients in another, in the order of add(), so
// the optimizer, the reduction and the checkpoint are loops over a list.
class ParamStore {
 public:
  ParamStore(Arena& values, Arena& grads, DType dtype) : values_(values), grads_(grads), dtype_(dtype) {}

  Param add(std::string name, i64 rows, i64 cols, Init init, bool decay) {
    return add_fused({{std::move(name), rows, init}}, cols, decay);
  }

  Param add_fused(std::vector<ParamPart> parts, i64 cols, bool decay) {
    i64 rows = 0;
    for (const ParamPart& part : parts) rows += part.rows;
    const Param whole{values_.alloc(parts[0].name, dtype_, rows, cols),
                      grads_.alloc(parts[0].name, dtype_, rows, cols)};
    allocations_.push_back({rows, cols, static_cast<i64>(parts.size())});
    i64 at = 0;
    for (ParamPart& part : parts) {
      const i64 end = at + part.rows;
      infos_.push_back(
          {std::move(part.name), {part_of(whole.value, at, end), part_of(whole.grad, at, end)}, part.init, decay});
      at = end;
    }
    return whole;
  }

  // One tensor per parameter, in the order of all() and laid out as the values are: what the optimizer keeps of a flat
  // span of parameters is the same flat span of this.
  std::vector<Tensor> alloc_like(Arena& arena, DType dtype) const {
    std::vector<Tensor> out;
    for (const Allocation& a : allocations_) {
      const Tensor whole = arena.alloc(infos_[out.size()].name, dtype, a.rows, a.cols);
      i64 at = 0;
      for (i64 part = 0; part < a.parts; ++part) {
        const Tensor value = infos_[out.size()].param.value;
        const i64 end = at + value.size() / a.cols;
        out.push_back(part_of(whole, at, end));
        at = end;
      }
    }
    return out;
  }

  const std::vector<ParamInfo>& all() const { return infos_; }
  DType dtype() const { return dtype_; }

  i64 count() const {
    i64 n = 0;
    for (const ParamInfo& info : infos_) n += info.param.value.size();
    return n;
  }

 private:
  struct Allocation {
    i64 rows, cols, parts;
  };

  // Part of a column is a vector, (1, n), as biases are.
  static Tensor part_of(const Tensor& whole, i64 begin, i64 end) {
    const Tensor part = whole.slice_rows(begin, end);
    return whole.cols == 1 ? part.flat() : part;
  }

  Arena& values_;
  Arena& grads_;
  DType dtype_;
  std::vector<ParamInfo> infos_;
  std::vector<Allocation> allocations_;
};

}  // namespace xlstm
