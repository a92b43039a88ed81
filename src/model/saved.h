#pragma once
#include <array>

#include "core/arena.h"

namespace xlstm {

// What the backward pass may assume is still in memory.
//   none   every saved tensor of every layer
//   cheap  the tensors that a layer marked cheap() are rebuilt, by its rebuild(), just before backward needs them
//   block  only the input of each block; its forward runs again
enum class Recompute : std::uint8_t { none, cheap, block };
constexpr auto names_of(Recompute) { return std::array{"none", "cheap", "block"}; }

// A layer lists the tensors that its backward reads, once, in its plan(). The policy is read here and in
// LanguageModel::backward, nowhere else.
class SavePlan {
 public:
  SavePlan(Arena& own, Arena& shared, Recompute policy) : own_(own), shared_(shared), policy_(policy) {}
  Tensor keep(const char* name, DType t, i64 rows, i64 cols) {
    return pick(Recompute::block).alloc(name, t, rows, cols);
  }
  Tensor cheap(const char* name, DType t, i64 rows, i64 cols) {
    return pick(Recompute::cheap).alloc(name, t, rows, cols);
  }
  // Of every block apart, whatever the policy: what is read when the pass is over.
  Tensor always(const char* name, DType t, i64 rows, i64 cols) { return own_.alloc(name, t, rows, cols); }

 private:
  Arena& pick(Recompute from) { return policy_ >= from ? shared_ : own_; }
  Arena& own_;     // lives from the forward to the backward pass
  Arena& shared_;  // used by every block in turn
  Recompute policy_;
};

}  // namespace xlstm
