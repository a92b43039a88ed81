#pragma once
// The op table: one declaration per op, every check for all of them. A case says which tensors there are, how the op is
// called, and what it means:
//
//   const OpCase kSwiglu{
//       .shapes = {{1, 1}, {3, 7}, {5, 64}, {2, 1025}},
//       .large = {{300, 257}},
//       .tensors = [](Shape s) { return Tensors{input("gate_up", s[0], 2 * s[1]), output("y", s[0], s[1])}; },
//       .forward = [](Context& ctx, Io& t) { ops::swiglu_forward(ctx, t["y"], t["gate_up"]); },
//       .backward = [](Context& ctx, Io& t) { ops::swiglu_backward(ctx, t.d("gate_up"), t.d("y"), t["gate_up"]); },
//       .meaning = [](auto& t) { t("y") = ref::swiglu(t("gate_up")); },
//       .roundings = 24};
//   TEST(OpTable, Swiglu) { check_op(kSwiglu); }
//
// check_op runs, on every target of this machine (device, instruction set), with dense and with padded rows:
//   1. f64 values = the reference at double, 1e-12
//   2. f64 gradients = complex step (h = 1e-50) of the reference, 1e-10
//   3. f32, and bf16 for cases with `bf16`, = f64 of the same (rounded) inputs, within f32_tolerance(); values and
//      gradients
//   4. outputs start as NaN and gradients of parameters as 1, so `=` and `+=` are both enforced; inputs keep their
//   bits;
//      nothing is written around a tensor; a second run, 1, 2 and 3 threads, and every permitted aliasing give the same
//      bits
// A device knows no f64: there, 3 compares with the CPU's f64. Large shapes are for several tasks per op: checks 3 and
// 4 only.
#include <array>
#include <complex>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/context.h"
#include "tests/reference/matrix.h"

namespace xlstm::test {

using Complex = std::complex<double>;
using Shape = std::array<i64, 3>;  // what the numbers mean is the case's business

enum class Role {
  input,      // random; its gradient overwrites
  parameter,  // random; its gradient accumulates
  output,     // NaN before the op; has a random upstream gradient
  saved,      // NaN before the op; no gradient
  inout,      // random; the op changes it
  index,      // whole numbers
};

struct TensorSpec {
  std::string name;
  Role role;
  i64 rows, cols;
  double scale = 1, shift = 0;  // values: shift + scale * normal; absolute values if `positive`
  bool positive = false;
  i64 low = 0, high = 0;                // index: [low, high)
  std::optional<double> upstream = {};  // output: this upstream gradient everywhere
  bool always_f64 = false;
  bool stat = false;             // f32 where activations are bf16; so is its gradient
  bool narrow_gradient = false;  // the gradient is bf16 although the tensor is not

  TensorSpec scaled(double s, double around = 0) && { return scale = s, shift = around, std::move(*this); }
  TensorSpec made_positive() && { return positive = true, std::move(*this); }
  TensorSpec with_upstream(double g) && { return upstream = g, std::move(*this); }
  TensorSpec in_f64() && { return always_f64 = true, std::move(*this); }
  TensorSpec as_stat() && { return stat = true, std::move(*this); }
  TensorSpec with_narrow_gradient() && { return stat = narrow_gradient = true, std::move(*this); }

  // Types when the op runs in `t`.
  DType dtype(DType t) const;
  DType gradient_dtype(DType t) const;
};
using Tensors = std::vector<TensorSpec>;

inline TensorSpec input(std::string name, i64 rows, i64 cols) { return {std::move(name), Role::input, rows, cols}; }
inline TensorSpec parameter(std::string name, i64 rows, i64 cols) {
  return {std::move(name), Role::parameter, rows, cols};
}
inline TensorSpec output(std::string name, i64 rows, i64 cols) { return {std::move(name), Role::output, rows, cols}; }
inline TensorSpec saved(std::string name, i64 rows, i64 cols) { return {std::move(name), Role::saved, rows, cols}; }
inline TensorSpec inout(std::string name, i64 rows, i64 cols) { return {std::move(name), Role::inout, rows, cols}; }
inline TensorSpec index(std::string name, i64 rows, i64 low, i64 high) {
  TensorSpec spec{std::move(name), Role::index, rows, 1};
  spec.low = low;
  spec.high = high;
  return spec;
}

// The tensors of one run, each in memory of its own between sentinels. d(x) is the gradient of x.
class Io {
 public:
  struct Layout {
    DType dtype;
    i64 padding;                                                    // elements between rows
    std::vector<std::pair<std::string, std::string>> aliases = {};  // the first lies where the second does
    bool like_bf16 = false;                                         // values as they would be with dtype bf16
  };
  Io(const Tensors& specs, const Layout& layout, bool with_gradients);
  Io(Io&&) = default;
  Io clone() const;  // of an Io without aliases

  Tensor operator[](const std::string& name) const { return slots_.at(name).tensor; }
  Tensor d(const std::string& name) const { return slots_.at("d" + name).tensor; }

  DType dtype(const std::string& slot) const { return slots_.at(slot).tensor.dtype; }
  std::vector<double> values(const std::string& slot) const;
  std::map<std::string, std::vector<std::byte>> bits(
      bool written_by_op) const;  // of what the op writes, or of the rest
  std::string damage() const;     // names the tensor around which something was written; "" when there is none

  // What f does to the tensors in a device's memory.
  void on_device(Gpu& gpu, const std::function<void(Io&)>& f);

 private:
  Io() = default;
  struct Slot {
    Tensor tensor;
    bool written = false;
    std::vector<std::byte> memory;
  };
  void add(const std::string& name, const TensorSpec& spec, DType dtype, i64 padding, bool written);
  void fill(const std::string& name, const std::function<double(i64)>& value);
  std::map<std::string, Slot> slots_;
};

// The same names, for the reference. Inputs stand in it, outputs are zero; the meaning sets these.
template <class S>
class RefIo {
 public:
  ref::Matrix<S>& operator()(const std::string& name) { return matrices[name]; }
  std::map<std::string, ref::Matrix<S>> matrices;
};

struct Meaning {
  Meaning() = default;
  template <class F>
  Meaning(F f) : real(f), complex(f) {}
  std::function<void(RefIo<double>&)> real;
  std::function<void(RefIo<Complex>&)> complex;
};

struct OpCase {
  std::vector<Shape> shapes;
  std::vector<Shape> large = {};
  std::function<Tensors(Shape)> tensors;
  std::function<void(Context&, Io&)> forward;
  std::function<void(Context&, Io&)> backward = {};
  Meaning meaning = {};
  std::function<i64(Shape)> terms = [](Shape) { return i64{0}; };  // of the longest sum behind one element
  bool bf16 = false;                                               // it also runs in bf16
  double roundings = 8;  // units of rounding along the longest path: docs/numerics.md, "Tolerances of the op table"
  std::vector<std::pair<std::string, std::string>> aliases =
      {};  // {"dx", "dy"}: dx may lie where dy does, if of one type
};

// Where an op can run: the CPU's instruction sets, and a GPU or its emulator if the test is linked with a back end.
struct Target {
  Device device = Device::cpu;
  CpuIsa isa = CpuIsa::baseline;
  std::string name() const { return std::string(name_of(device)) + " " + name_of(isa); }
};
std::vector<Target> targets();
[[gnu::weak]] void tiles_are_emulated();  // there in a program whose products on AMX's tiles are (tests/tiles)
Gpu* test_gpu();                          // null without one

double f32_tolerance(i64 terms, double roundings);

void check_op(const OpCase& op);

}  // namespace xlstm::test
