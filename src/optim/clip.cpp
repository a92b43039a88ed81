#include "optim/clip.h"

#include <algorithm>
#include <cmath>

namespace xlstm {

namespace {

double norm_of(Context& ctx, const ParamStore& params, Tensor sums, Tensor Param::*which) {
  const ClassScope in(ctx, OpClass::optimizer);
  const auto& all = params.all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const i64 row = static_cast<i64>(i);
    ops::sum_squares(ctx, sums.slice_rows(row, row + 1), all[i].param.*which);
  }
  if (ctx.dry()) return 0;
  double total = 0;
  for (std::size_t i = 0; i < all.size(); ++i) total += *sums.row<double>(static_cast<i64>(i));
  return std::sqrt(total);
}

}  // namespace

double gradient_norm(Context& ctx, const ParamStore& params, Tensor sums) {
  return norm_of(ctx, params, sums, &Param::grad);
}

double parameter_norm(Context& ctx, const ParamStore& params, Tensor sums) {
  return norm_of(ctx, params, sums, &Param::value);
}

double clip_scale(double norm, double clip) { return clip > 0 ? clip / std::max(clip, norm) : 1; }

}  // namespace xlstm
