#pragma once
// A device, or the emulator, and tensors in its memory, for tests of ops beyond the op table.
#include <vector>

#include "core/bf16.h"
#include "core/context.h"
#include "kernels/ops.h"

namespace xlstm::test {

class TestDevice {
 public:
  TestDevice() : gpu_(open_gpu(0)), scratch_("scratch", memory_, 0) {
    ctx = {.device = Device::cuda, .gpu = gpu_.get(), .scratch = &scratch_};
  }

  // `offset` elements behind an address aligned to 256.
  template <class T>
  Tensor put(const std::vector<T>& values, i64 rows, DType type, i64 offset = 0) {
    const i64 cols = static_cast<i64>(values.size()) / rows, skip = offset * size_of(type);
    Tensor t{gpu_->allocate(static_cast<i64>(values.size() * sizeof(T)) + skip) + skip,
             type,
             Device::cuda,
             rows,
             cols,
             cols};
    upload(ctx, t, values.data());
    return t;
  }
  Tensor put(const std::vector<float>& x, i64 rows = 1, i64 offset = 0) { return put(x, rows, DType::f32, offset); }
  Tensor put(const std::vector<double>& x, i64 rows = 1) { return put(x, rows, DType::f64); }
  Tensor put(const std::vector<std::int32_t>& x) { return put(x, static_cast<i64>(x.size()), DType::i32); }

  template <class T>
  std::vector<T> get(const Tensor& t) {
    std::vector<T> values(static_cast<std::size_t>(t.size()));
    download(ctx, values.data(), t);
    return values;
  }

  Context ctx;

 private:
  std::unique_ptr<Gpu> gpu_;  // releases what put() took
  std::byte memory_[1];
  Arena scratch_;
};

}  // namespace xlstm::test
