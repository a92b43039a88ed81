#include "kernels/op_scope.h"

#include <cmath>
#include <vector>

#include "core/bf16.h"

namespace xlstm {

namespace {

// A row of any floating-point type, in host memory.
std::vector<double> read_row(Context& ctx, const Tensor& t, i64 r) {
  const Tensor row = t.slice_rows(r, r + 1);
  std::vector<std::byte> bytes(static_cast<std::size_t>(row.bytes()));
  download(ctx, bytes.data(), row);
  std::vector<double> out(static_cast<std::size_t>(row.cols));
  for (std::size_t j = 0; j < out.size(); ++j) {
    const std::byte* const at = bytes.data() + j * static_cast<std::size_t>(size_of(t.dtype));
    out[j] = t.dtype == DType::f64    ? *reinterpret_cast<const double*>(at)
             : t.dtype == DType::bf16 ? static_cast<double>(to_float(*reinterpret_cast<const bf16*>(at)))
                                      : static_cast<double>(*reinterpret_cast<const float*>(at));
  }
  return out;
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
    throw GpuError(fmt::format("{}: {}{}", where(), e.what(),
                               wait ? "" : "; run.check=full finds the op that is at fault, if it was an earlier one"));
  }
}

void OpScope::check(const Tensor& t) const {
  if (!ctx_.check_ops || t.dtype == DType::i32) return;
  for (i64 r = 0; r < t.rows; ++r) {
    const std::vector<double> row = read_row(ctx_, t, r);
    for (std::size_t j = 0; j < row.size(); ++j)
      if (!std::isfinite(row[j]))
        throw Error(fmt::format("{}: wrote {} to row {}, column {} of its output", where(), row[j], r, j));
  }
}

}  // namespace xlstm
