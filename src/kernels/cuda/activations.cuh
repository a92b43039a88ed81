#pragma once
// Functions that several kernels share. Accurate to a few units in the last place: none of the fast intrinsics.
#include <cmath>

#include "kernels/cuda/dialect.h"

namespace xlstm::dialect {

// 0 and 1 at the infinities: expf overflows to one, and 1 / inf is 0.
XL_DEVICE float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

}  // namespace xlstm::dialect
