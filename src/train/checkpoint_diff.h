#pragma once
// Where two checkpoints differ, tensor by tensor.
#include "train/checkpoint.h"

namespace xlstm {

struct TensorDifference {
  std::string name;
  std::string kind;            // "values", "shape or type", "only in A", "only in B"
  std::string in_a{}, in_b{};  // "f32 [4, 5]", or "" where it is missing
  double max_abs = 0;          // of a - b; infinite where only one of the two values is a number (kind "values" alone)
  double max_rel = 0;          // max_abs over the largest magnitude in either tensor
  i64 different_values = 0;    // elements whose bits differ
};

struct CheckpointDifference {
  std::vector<TensorDifference> params, optimizer;  // only the tensors that differ, in the order of A
  i64 params_compared = 0, optimizer_compared = 0;  // tensors in both
  bool same_step = true;
  std::vector<std::string> state;  // what differs in it: "tokens: 100 and 200", "config: train.steps 10 and 20"
  bool identical() const { return params.empty() && optimizer.empty() && same_step && state.empty(); }
};

// Reads only the tensors whose checksums differ.
CheckpointDifference compare_checkpoints(const CheckpointReader& a, const CheckpointReader& b);

}  // namespace xlstm
