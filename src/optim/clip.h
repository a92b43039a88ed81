#pragma once
// The global gradient norm and what it does to the update.
#include "core/params.h"
#include "kernels/ops.h"

namespace xlstm {

// sqrt of the sum of squares of all gradients: fixed blocks within a parameter, then parameters in order.
// `sums`: (parameters, 1) f64, from an arena of the caller.
double gradient_norm(Context& ctx, const ParamStore& params, Tensor sums);

// clip / max(clip, norm); 1 without clipping (clip = 0).
double clip_scale(double norm, double clip);

// The norm of the parameters themselves, the same way.
double parameter_norm(Context& ctx, const ParamStore& params, Tensor sums);

}  // namespace xlstm
