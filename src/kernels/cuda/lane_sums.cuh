#pragma once
// Many sums over the lanes of a warp at once, each lane ending with its share of them.
#include "kernels/cuda/dialect.h"

namespace xlstm::dialect {

// Every lane has terms of the same 2 kKept sums. In every step it keeps half of the sums and gives the others to the
// lane that differs in the bit of weight kStep kKept, until kLeft stand in front: in lane l those from
// kLeft floor(l / (kLeft kStep)) on. With 32 sums 31 shuffles do what 160 would. By templates: indices that the
// compiler does not know would put the array into memory.
template <int kKept, int kLeft, int kStep, int kSums>
XL_DEVICE void share_out_sums(float (&sums)[kSums]) {
  const bool upper = (lane_index() & kStep * kKept) != 0;
  XL_UNROLL
  for (int j = 0; j < kKept; ++j) {
    const float keep = upper ? sums[kKept + j] : sums[j], give = upper ? sums[j] : sums[kKept + j];
    sums[j] = keep + shuffle_xor(give, kStep * kKept);
  }
  if constexpr (kKept > kLeft) share_out_sums<kKept / 2, kLeft, kStep>(sums);
}

}  // namespace xlstm::dialect
