#include "kernels/op_scope.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/bf16.h"

namespace xlstm {

namespace {

// visit(i, x) for the elements of a dense row of any floating-point type.
template <class F>
void for_elements(Context& ctx, const Tensor& row, F&& visit) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(row.bytes()));
  download(ctx, bytes.data(), row);
  for (i64 j = 0; j < row.cols; ++j) {
    const std::byte* const at = bytes.data() + j * size_of(row.dtype);
    visit(j, row.dtype == DType::f64    ? *reinterpret_cast<const double*>(at)
             : row.dtype == DType::bf16 ? static_cast<double>(to_float(*reinterpret_cast<const bf16*>(at)))
                                        : static_cast<double>(*reinterpret_cast<const float*>(at)));
  }
}

}  // namespace

std::string OpScope::where() const {
  std::string text = name_;
  if (ctx_.layer >= 0) text += fmt::format(", layer {}", ctx_.layer);
  if (ctx_.step >= 0) text += fmt::format(", step {}", ctx_.step);
  return text;
}

void OpScope::run(const std::function<void()>& op) const {
  const bool wait = ctx_.gpu && (ctx_.profile || ctx_.check_ops);
  try {
    if (ctx_.gpu) ctx_.gpu->begin_range(name_);
    const Timer timer;
    op();
    if (wait) ctx_.gpu->synchronize();
    if (ctx_.profile) ctx_.profile->add_call(ctx_.op_class, timer.seconds());
    if (ctx_.gpu) ctx_.gpu->end_range();
  } catch (const GpuError& e) {
    throw GpuError(fmt::format("{}: {}{}", where(), e.what(), wait ? "" : kAskForCheck));
  } catch (const Error& e) {
    throw Error(fmt::format("{}: {}", where(), e.what()));
  }
}

void OpScope::check(const Tensor& t, int argument) const {
  constexpr i64 kPiece = i64{1} << 20;  // elements in host memory at a time
  if (t.dtype == DType::i32 || t.size() == 0) return;
  const Tensor rows = t.dense() ? t.flat() : t;
  for (i64 r = 0; r < rows.rows; ++r)
    for (i64 begin = 0; begin < rows.cols; begin += kPiece) {
      const Tensor piece = rows.slice_rows(r, r + 1).slice_cols(begin, std::min(rows.cols, begin + kPiece));
      for_elements(ctx_, piece, [&](i64 j, double x) {
        if (std::isfinite(x) || (t.dtype == DType::f64 && std::isinf(x))) return;
        const i64 at = r * rows.cols + begin + j;
        throw Error(fmt::format("{}: {} in row {}, column {} of its argument {}", where(), x, at / t.cols, at % t.cols,
                                argument));
      });
    }
}

}  // namespace xlstm
