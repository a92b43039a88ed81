#pragma once
// Random tensors on a machine, and how long an op takes there.
#include <functional>

#include "core/memory.h"
#include "kernels/ops.h"
#include "tools/bench.h"
#include "train/machine.h"

namespace xlstm {

class BenchRig {
 public:
  // `bytes` of tensors at once
  BenchRig(Machine machine, DType activations, i64 bytes);

  const Machine& machine() const { return machine_; }
  DType type() const { return type_; }  // of activations
  double size() const { return static_cast<double>(size_of(type_)); }

  // Zeros would flatter the machine.
  Tensor tensor(i64 rows, i64 cols, DType type);
  Tensor tensor(i64 rows, i64 cols) { return tensor(rows, cols, type_); }
  Tensor single(i64 rows, i64 cols) { return tensor(rows, cols, DType::f32); }
  Tensor integers(i64 rows, i64 below);      // i32
  Tensor doubles(i64 rows, i64 cols);        // each is 0.1
  void reset() { arena_.rewind(tensors_); }  // what was made so far is given back

  // Median of several calls; on a GPU by its own clock, with the caches emptied before each.
  double median_seconds(const std::function<void()>& work);

  Context ctx;

 private:
  Machine machine_;
  DType type_;
  Buffer buffer_;
  std::byte none_[1];
  Arena arena_, scratch_;
  Tensor random_, flush_;
  i64 tensors_ = 0;  // where those begin
};

// --device and --precision: without them a GPU in bf16, or the processor in f32.
struct BenchMachineOptions {
  std::string device = "auto", precision;
  void add_to(CLI::App& cmd);
  Machine machine() const;
  DType type(const Machine& machine) const;
};

}  // namespace xlstm
