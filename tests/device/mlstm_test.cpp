// The mLSTM kernels against the definition in f64 on the same bf16 inputs.
#include <gtest/gtest.h>

#include <array>

#include "core/bf16.h"
#include "kernels/cuda/mlstm/workspace.h"
#include "tests/kernels/mlstm_case.h"

namespace xlstm {
namespace {

Gpu& gpu() {
  static const std::unique_ptr<Gpu> one = open_gpu(0);
  return *one;
}

// Tensors on the device, each an allocation of its own, NaN before it is written.
class OnDevice {
 public:
  ~OnDevice() {
    for (std::byte* data : allocations_) gpu().release(data);
  }
  OnDevice() = default;
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  // `gap`: elements between rows, NaN
  Tensor tensor(const Values& values, i64 cols, DType type, i64 gap = 0) {
    const i64 rows = static_cast<i64>(values.size()) / cols, stride = cols + gap;
    std::vector<float> singles(static_cast<std::size_t>(rows * stride), std::numeric_limits<float>::quiet_NaN());
    for (i64 i = 0; i < rows * cols; ++i)
      singles[static_cast<std::size_t>(i / cols * stride + i % cols)] = static_cast<float>(values[std::size_t(i)]);
    std::vector<bf16> halves;
    for (const float x : singles) halves.push_back(to_bf16(x));
    Tensor t{nullptr, type, Device::cuda, rows, cols, stride};
    const i64 bytes = rows * stride * size_of(type);
    t.data = allocations_.emplace_back(gpu().allocate(bytes));
    gpu().copy_in(t.data, type == DType::bf16 ? static_cast<const void*>(halves.data()) : singles.data(), bytes);
    return t;
  }
  Tensor empty(std::size_t size, i64 cols, DType type, i64 gap = 0) {
    return tensor(Values(size, kNaN), cols, type, gap);
  }

 private:
  std::vector<std::byte*> allocations_;
};

// What lies between rows has to be NaN still.
Values read(const Tensor& t) {
  const i64 elements = t.rows * t.row_stride;
  std::vector<std::byte> bytes(static_cast<std::size_t>(elements * size_of(t.dtype)));
  gpu().copy_out(bytes.data(), t.data, static_cast<i64>(bytes.size()));
  Values out;
  for (i64 i = 0; i < elements; ++i) {
    const auto x = static_cast<double>(t.dtype == DType::bf16 ? to_float(reinterpret_cast<const bf16*>(bytes.data())[i])
                                                              : reinterpret_cast<const float*>(bytes.data())[i]);
    if (i % t.row_stride < t.cols)
      out.push_back(x);
    else
      EXPECT_TRUE(std::isnan(x)) << "written between rows";
  }
  return out;
}

struct Options {
  DType type = DType::bf16;
  CellKernel kernel = CellKernel::automatic;
  i64 gap = 0;  // elements between rows, as in a fused projection
};

CellShape shape_here(const MlstmCase& x, CellKernel kernel) {
  CellShape shape = x.shape(64);
  shape.kernel = kernel;
  shape.shared_bytes = gpu().info().shared_bytes;
  shape.architecture = gpu().info().architecture;
  return shape;
}

bool takes(CellKernel kernel, i64 K, i64 V) {
  try {
    choose_cell_kernel(shape_here({}, kernel), DType::bf16, K, V);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// mlstm_forward and mlstm_backward on the device.
MlstmResult run_on_device(const MlstmCase& x, Options o = {}) {
  OnDevice d;
  const CellShape shape = shape_here(x, o.kernel);
  const auto f32 = DType::f32;
  const std::size_t gates = x.log_i.size();
  CellStats stats;
  CellState first, last{d.empty(x.c.size(), x.V, f32), {}, {}}, dlast, dfirst{d.empty(x.c.size(), x.V, f32), {}, {}};
  if (x.with_first) first.c = d.tensor(x.c, x.V, f32);
  if (x.with_dlast) dlast.c = d.tensor(x.dlast, x.V, f32);
  if (x.normalize) {
    last.n = d.empty(x.n.size(), x.K, f32), last.m = d.empty(x.m.size(), 1, f32);
    stats = {d.empty(gates, x.H, f32), d.empty(gates, x.H, f32)};
    if (x.with_first) first.n = d.tensor(x.n, x.K, f32), first.m = d.tensor(x.m, 1, f32);
  }
  const auto given = [&](const Values& values, i64 width) { return d.tensor(values, x.H * width, o.type, o.gap); };
  const auto made = [&](const Values& like, i64 width) { return d.empty(like.size(), x.H * width, o.type, o.gap); };
  const CellInputs in{
      given(x.q, x.K), given(x.k, x.K), given(x.v, x.V), {d.tensor(x.log_i, x.H, f32), d.tensor(x.log_f, x.H, f32)}};
  const CellInputs din{
      made(x.q, x.K), made(x.k, x.K), made(x.v, x.V), {d.empty(gates, x.H, f32), d.empty(gates, x.H, f32)}};
  const Tensor h = made(x.v, x.V), dh = given(x.dh, x.V);
  const auto workspace = [&](bool backward) {
    const i64 n = mlstm_workspace_elements(Device::cuda, o.type, shape, x.T, x.K, x.V, 1, backward);
    return d.empty(static_cast<std::size_t>(std::max<i64>(n, 1)), 1, f32);
  };
  const auto flat = [](const Tensor& t) { return t.flat(); };
  std::byte byte{};
  Arena scratch("scratch", &byte, 1);
  Context ctx{.device = Device::cuda, .gpu = &gpu(), .scratch = &scratch};
  ops::mlstm_forward(ctx, h, stats, last, in, first, shape, flat(workspace(false)));
  ops::mlstm_backward(ctx, din, dfirst, dh, dlast, in, stats, first, shape, flat(workspace(true)));

  MlstmResult y{.h = read(h), .c = read(last.c)};
  if (x.normalize) {
    y.denominator = read(stats.denominator), y.max = read(stats.max);
    y.n = read(last.n), y.m = read(last.m);
  }
  y.dq = read(din.q), y.dk = read(din.k), y.dv = read(din.v);
  y.dlog_i = read(din.log.i), y.dlog_f = read(din.log.f);
  y.dfirst = read(dfirst.c);
  return y;
}

// The CPU's kernels at f64 stand for the definition: tests/kernels holds them to it to 1e-12. Tolerances:
// docs/numerics.md.
void expect_f32_cell(const MlstmCase& x) {
  const MlstmResult want = run_mlstm<double>(x), got = run_on_device(x, {DType::f32});
  const double most = f32_tolerance(x);
  for (const auto& [name, part] : {std::pair{"h", &MlstmResult::h},
                                   {"c", &MlstmResult::c},
                                   {"n", &MlstmResult::n},
                                   {"m", &MlstmResult::m},
                                   {"max", &MlstmResult::max},
                                   {"denominator", &MlstmResult::denominator},
                                   {"dq", &MlstmResult::dq},
                                   {"dk", &MlstmResult::dk},
                                   {"dv", &MlstmResult::dv},
                                   {"dlog_i", &MlstmResult::dlog_i},
                                   {"dlog_f", &MlstmResult::dlog_f},
                                   {"dfirst", &MlstmResult::dfirst}})
    if (part != &MlstmResult::dfirst || x.with_first) {
      EXPECT_LE(worst_error(got.*part, want.*part), most) << name;
    }
}

void expect_cell(const MlstmCase& x, Options o = {}) { expect_bf16_cell(x, run_on_device(x, o)); }

// Of each input gate (exp: true), with whatever kernel takes the head.
class DeviceCell : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Gates, DeviceCell, testing::Values(true, false),
                         [](const auto& p) { return p.param ? "exp" : "sigmoid"; });

// With one of the kernels that go by chunks.
class DeviceMlstm : public testing::TestWithParam<std::tuple<bool, CellKernel>> {
 protected:
  void SetUp() override {
    if (!takes(options().kernel, 64, 64)) GTEST_SKIP() << "not for this device";
  }
  static bool exp() { return std::get<0>(GetParam()); }
  static Options options() { return {.kernel = std::get<1>(GetParam())}; }
};
INSTANTIATE_TEST_SUITE_P(Gates, DeviceMlstm,
                         testing::Combine(testing::Values(true, false),
                                          testing::Values(CellKernel::portable, CellKernel::wgmma_no_cluster,
                                                          CellKernel::wgmma)),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param) ? "exp_" : "sigmoid_") +
                                  names_of(CellKernel{})[static_cast<std::size_t>(std::get<1>(p.param))];
                         });

TEST_P(DeviceMlstm, HeadSizes) {
  for (const auto& [K, V] : {std::pair{64, 128}, std::pair{128, 256}, std::pair{192, 384}, std::pair{256, 512}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}", K, V));
    if (takes(options().kernel, K, V)) expect_cell(rounded_case(1, 128, 1, K, V, exp(), 1, false, -1), options());
  }
}

// Three chunks and more, so that every place in shared memory is used again; clusters of 4, 2 and 1; a slice that is
// half empty.
TEST_P(DeviceMlstm, Rounds) {
  for (const auto& [K, V, T] : {std::array{256, 512, 200}, {256, 192, 330}, {64, 64, 400}, {192, 384, 320}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}, T {}", K, V, T));
    if (takes(options().kernel, K, V)) expect_cell(rounded_case(1, T, 1, K, V, exp(), 14, true, -1), options());
  }
}

// Rows of q, k, v, h and their gradients lie in wider ones.
TEST_P(DeviceMlstm, StridedRows) {
  Options o = options();
  o.gap = 72;
  expect_cell(rounded_case(2, 150, 2, 64, 128, exp(), 17, true), o);
}

TEST_P(DeviceCell, OtherHeadSizes) {
  for (const auto& [K, V] : {std::pair{8, 16}, std::pair{64, 64}, std::pair{320, 64}, std::pair{64, 200}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}", K, V));
    expect_cell(rounded_case(1, 70, 1, K, V, GetParam(), 2, true));
  }
}

TEST_P(DeviceMlstm, AnyLength) {
  for (const i64 T : {1, 2, 63, 64, 65, 191}) {
    SCOPED_TRACE(fmt::format("T {}", T));
    expect_cell(rounded_case(2, T, 2, 64, 128, exp(), 3, T % 2 == 0), options());
  }
}

TEST_P(DeviceMlstm, Resets) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = rounded_case(2, 200, 2, 64, 64, exp(), 4, with_states);
    for (const i64 r : {0, 5, 63, 64, 65, 66, 130, 200, 263, 391}) x.log_f[r * 2] = x.log_f[r * 2 + 1] = ref::kMinusInf;
    x.log_f[20 * 2] = ref::kMinusInf;  // of one head alone
    expect_cell(x, options());
  }
}

// Input gates all but shut, all open, and maxima that jump.
TEST_P(DeviceMlstm, ExtremeGates) {
  for (const double mean : {-15., -10., 15.}) {
    SCOPED_TRACE(mean);
    MlstmCase x = rounded_case(1, 130, 1, 64, 64, exp(), 16, true, mean);
    if (exp())
      for (const std::size_t jump : {30, 70, 128}) x.log_i[jump] += 25;
    expect_cell(x, options());
  }
}

// More tokens than lie between two anchors of the forget gate's gradient.
TEST_P(DeviceMlstm, Anchors) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = rounded_case(1, 2100, 1, 64, 64, exp(), 5, with_states);
    for (double& f : x.log_f) f *= 0.02;  // long memory
    if (with_states) x.log_f[1500] = ref::kMinusInf;
    expect_cell(x, options());
  }
}

// Few heads and many tokens: pieces side by side, the last of them shorter, with as many chunks as there may be at
// least; four of them; and heads so wide that two warpgroups share them, with an anchor within.
TEST_P(DeviceMlstm, Pieces) {
  for (const auto& [chunks, ctas, pieces] :
       {std::array{128, 128, 1}, {128, 16, 8}, {128, 1, 16}, {15, 1, 1}, {16, 1, 2}, {33, 1, 4}})
    EXPECT_EQ(mlstm::pieces_of(chunks, ctas), pieces);
  for (const auto& [heads, K, V, T] : {std::array{2, 64, 128, 1060}, {1, 64, 64, 2060}, {1, 192, 384, 1100}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}, T {}", K, V, T));
    MlstmCase x = rounded_case(1, T, heads, K, V, exp(), 15, /*with_states=*/heads == 1);
    for (double& f : x.log_f) f *= 0.05;
    x.log_f[700] = ref::kMinusInf;
    expect_cell(x, options());
  }
}

// Every launch has a schedule of its own.
void expect_same_bits_again(const MlstmCase& x, Options o) {
  const MlstmResult want = run_on_device(x, o);
  for (int again = 0; again < 8; ++again) {
    const MlstmResult got = run_on_device(x, o);
    EXPECT_EQ(got.h, want.h);
    EXPECT_EQ(got.dq, want.dq);
    EXPECT_EQ(got.dk, want.dk);
    EXPECT_EQ(got.dv, want.dv);
    EXPECT_EQ(got.dlog_f, want.dlog_f);
  }
}
TEST_P(DeviceMlstm, AnyScheduleGivesTheSameBits) {
  expect_same_bits_again(rounded_case(1, 130, 1, 64, 128, exp(), 6, true), options());
}
TEST_P(DeviceCell, AnyScheduleGivesTheSameBits) {
  expect_same_bits_again(rounded_case(1, 20, 1, 64, 128, GetParam(), 6, true), {DType::f32});
}

// The recurrent kernel: f32, and heads that the portable one does not take.
TEST_P(DeviceCell, RecurrentInF32) {
  for (const auto& [K, V, T] : {std::array{8, 16, 1}, {31, 33, 40}, {64, 128, 70}, {128, 64, 20}}) {
    SCOPED_TRACE(fmt::format("K {}, V {}, T {}", K, V, T));
    expect_f32_cell(random_case(2, T, 2, K, V, GetParam(), 7, false));
    expect_f32_cell(random_case(1, T, 2, K, V, GetParam(), 8, true, -1));
  }
}

TEST_P(DeviceCell, RecurrentResets) {
  for (const bool with_states : {false, true}) {
    MlstmCase x = random_case(2, 70, 2, 16, 16, GetParam(), 9, with_states);
    for (const i64 r : {0, 5, 31, 32, 33, 69, 70, 133}) x.log_f[r * 2] = x.log_f[r * 2 + 1] = ref::kMinusInf;
    x.log_f[20 * 2] = ref::kMinusInf;
    expect_f32_cell(x);
  }
}

TEST_P(DeviceCell, RecurrentInBf16) {
  expect_cell(rounded_case(1, 70, 2, 24, 36, GetParam(), 10, true));  // 36: not whole pieces of 16 bytes
  expect_cell(rounded_case(1, 12, 1, 576, 40, GetParam(), 11, true));
  expect_cell(rounded_case(1, 70, 2, 64, 64, GetParam(), 12, true), {.kernel = CellKernel::recurrent});
}

TEST_P(DeviceCell, StepReplacesTheState) {
  const MlstmCase x = random_case(2, 5, 2, 40, 70, GetParam(), 13, true);
  const MlstmResult want = run_mlstm_step<double>(x);
  OnDevice d;
  const auto f32 = DType::f32;
  CellState state{d.tensor(x.c, x.V, f32), {}, {}};
  if (x.normalize) state.n = d.tensor(x.n, x.K, f32), state.m = d.tensor(x.m, 1, f32);
  const CellInputs in{d.tensor(x.q, x.H * x.K, f32),
                      d.tensor(x.k, x.H * x.K, f32),
                      d.tensor(x.v, x.H * x.V, f32),
                      {d.tensor(x.log_i, x.H, f32), d.tensor(x.log_f, x.H, f32)}};
  const Tensor h = d.empty(x.v.size(), x.H * x.V, f32);
  std::byte byte{};
  Arena scratch("scratch", &byte, 1);
  Context ctx{.device = Device::cuda, .gpu = &gpu(), .scratch = &scratch};
  ops::mlstm_step(ctx, h, state, in, shape_here(x, CellKernel::automatic));
  EXPECT_LE(worst_error(read(h), want.h), f32_tolerance(x));
  EXPECT_LE(worst_error(read(state.c), want.c), f32_tolerance(x));
  if (!x.normalize) return;
  EXPECT_LE(worst_error(read(state.n), want.n), f32_tolerance(x));
  EXPECT_LE(worst_error(read(state.m), want.m), f32_tolerance(x));
}

TEST(CellKernels, AHeadThatAKernelDoesNotTakeIsRefused) {
  const auto choose = [](CellKernel wanted, DType type, i64 k, i64 v, i64 shared = kHopperSharedBytes,
                         int architecture = 80) {
    return choose_cell_kernel({.kernel = wanted, .shared_bytes = shared, .architecture = architecture}, type, k, v);
  };
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 256, 512), CellKernel::portable);
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 256, 512, kHopperSharedBytes, 90), CellKernel::wgmma);
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 320, 512, kHopperSharedBytes, 90), CellKernel::portable);
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 256, 512, kHopperSharedBytes, 100), CellKernel::portable);
  EXPECT_EQ(choose(CellKernel::wgmma_no_cluster, DType::bf16, 256, 512, kHopperSharedBytes, 90),
            CellKernel::wgmma_no_cluster);
  EXPECT_THROW(choose(CellKernel::wgmma, DType::bf16, 256, 512), UserError);
  EXPECT_THROW(choose(CellKernel::wgmma_no_cluster, DType::bf16, 256, 512), UserError);
  EXPECT_THROW(choose(CellKernel::wgmma, DType::bf16, 512, 512, kHopperSharedBytes, 90), UserError);
  EXPECT_EQ(choose(CellKernel::automatic, DType::f32, 256, 512), CellKernel::recurrent);
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 576, 576), CellKernel::recurrent);
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 256, 512, 163 << 10), CellKernel::portable);  // sm_80
  EXPECT_EQ(choose(CellKernel::automatic, DType::bf16, 192, 384, 99 << 10), CellKernel::recurrent);  // sm_86
  EXPECT_THROW(choose(CellKernel::portable, DType::f32, 64, 64), UserError);
  EXPECT_THROW(choose(CellKernel::automatic, DType::bf16, 64, 1088), UserError);
}

}  // namespace
}  // namespace xlstm
