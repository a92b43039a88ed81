// Matrix products where there is no library for them: plainly, in f64, rounded once.
#include <vector>

#include "core/bf16.h"
#include "kernels/cuda/emulator/device_memory.h"
#include "kernels/cuda/emulator/gpu.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

namespace {

double read(const Tensor& t, i64 r, i64 c) {
  const std::byte* at = t.data + (r * t.row_stride + c) * size_of(t.dtype);
  return t.dtype == DType::bf16 ? static_cast<double>(to_float(*reinterpret_cast<const bf16*>(at)))
                                : static_cast<double>(*reinterpret_cast<const float*>(at));
}

void write(const Tensor& t, i64 r, i64 c, double x) {
  std::byte* at = t.data + (r * t.row_stride + c) * size_of(t.dtype);
  if (t.dtype == DType::bf16)
    *reinterpret_cast<bf16*>(at) = to_bf16(static_cast<float>(x));
  else
    *reinterpret_cast<float*>(at) = static_cast<float>(x);
}

std::vector<double> values(const Tensor& t, bool transposed) {
  std::vector<double> out(static_cast<std::size_t>(t.size()));
  for (i64 r = 0; r < t.rows; ++r)
    for (i64 c = 0; c < t.cols; ++c)
      out[static_cast<std::size_t>(transposed ? c * t.rows + r : r * t.cols + c)] = read(t, r, c);
  return out;
}

void multiply(Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  emulator::note_launch("product" + emulator::bytes_of(c) + emulator::bytes_of(z) + emulator::bytes_of(a) +
                        emulator::bytes_of(b) + emulator::bytes_of(flags));
  const emulator::DeviceAccess open;
  const i64 K = flags.transpose_a ? a.rows : a.cols;
  const std::vector<double> left = values(a, flags.transpose_a), right = values(b, !flags.transpose_b);
  for (i64 m = 0; m < c.rows; ++m)
    for (i64 n = 0; n < c.cols; ++n) {
      const double *x = left.data() + m * K, *y = right.data() + n * K;
      double sum = flags.accumulate ? read(c, m, n) : z.rows > 0 ? read(z, m, n) : 0;
      for (i64 k = 0; k < K; ++k) sum += x[k] * y[k];
      write(c, m, n, sum);
    }
}

}  // namespace

void matmul(Context&, Tensor c, Tensor a, Tensor b, MatmulFlags flags) {
  check_product(c, a, b, flags);
  multiply(c, /*z=*/{}, a, b, flags);
}

void matmul_add(Context&, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  check_sum(c, z, a, b, flags);
  multiply(c, z, a, b, flags);
}

}  // namespace xlstm::gpu
