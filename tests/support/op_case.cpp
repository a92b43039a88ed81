#include "tests/support/op_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/bf16.h"
#include "core/parallel.h"
#include "core/random.h"

namespace xlstm::test {

namespace {

constexpr std::byte kSentinel{0xA5};
constexpr i64 kGuard = 256;  // bytes before and behind every tensor
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The same numbers for a name, whatever the dtype: f32 and f64 hold the same.
std::function<double(i64)> random_values(const TensorSpec& spec, const std::string& name) {
  const RandomStream stream(std::hash<std::string>{}(name), RandomUse::test);
  if (spec.role == Role::index)
    return [=](i64 i) {
      return double(spec.low + i64(stream.bits(std::uint64_t(i)) % std::uint64_t(spec.high - spec.low)));
    };
  return [=](i64 i) {
    const auto bits = stream.block(std::uint64_t(i));  // the sum of four uniform numbers is nearly normal
    const double normal = (double(bits[0]) + bits[1] + bits[2] + bits[3] - 0x1p33) * 0x1p-32 * std::sqrt(3);
    const double x = static_cast<float>(spec.shift + spec.scale * normal);
    return spec.positive ? std::fabs(x) : x;
  };
}

// visit(byte offset of element (r, c)) in row-major order
template <class F>
void for_elements(const Tensor& t, F&& visit) {
  for (i64 r = 0; r < t.rows; ++r)
    for (i64 c = 0; c < t.cols; ++c) visit((r * t.row_stride + c) * size_of(t.dtype));
}

double rounded_to_bf16(double x) { return static_cast<double>(to_float(to_bf16(static_cast<float>(x)))); }

}  // namespace

DType TensorSpec::dtype(DType t) const {
  if (role == Role::index) return DType::i32;
  return always_f64 ? DType::f64 : stat ? stat_type(t) : t;
}
DType TensorSpec::gradient_dtype(DType t) const {
  if (role == Role::parameter) return stat_type(t);
  return narrow_gradient ? t : dtype(t);
}

Io::Io(const Tensors& specs, const Layout& layout, bool with_gradients) {
  const auto alias_of = [&](const std::string& name) -> const std::string* {
    for (const auto& [alias, original] : layout.aliases)
      if (alias == name) return &original;
    return nullptr;
  };
  std::vector<std::string> aliases;
  const auto place = [&](const std::string& name, const TensorSpec& spec, DType (TensorSpec::*type)(DType) const,
                         bool written, std::function<double(i64)> value) {
    if (alias_of(name)) {
      aliases.push_back(name);
      return;
    }
    add(name, spec, (spec.*type)(layout.dtype), layout.padding, written);
    if (layout.like_bf16 && (spec.*type)(DType::bf16) == DType::bf16)
      value = [value](i64 i) { return rounded_to_bf16(value(i)); };
    fill(name, value);
  };
  const auto constant = [](double x) { return [x](i64) { return x; }; };
  for (const TensorSpec& spec : specs) {
    const bool made = spec.role == Role::output || spec.role == Role::saved;
    place(spec.name, spec, &TensorSpec::dtype, made || spec.role == Role::inout,
          made ? constant(kNaN) : random_values(spec, spec.name));
    if (!with_gradients) continue;
    const std::string gradient = "d" + spec.name;
    if (spec.role == Role::input) place(gradient, spec, &TensorSpec::gradient_dtype, true, constant(kNaN));
    if (spec.role == Role::parameter) place(gradient, spec, &TensorSpec::gradient_dtype, true, constant(1));
    if (spec.role == Role::output) {
      TensorSpec plain = spec;
      plain.scale = 1, plain.shift = 0, plain.positive = false;
      place(gradient, spec, &TensorSpec::gradient_dtype, false,
            spec.upstream ? constant(*spec.upstream) : random_values(plain, gradient));
    }
  }
  for (const std::string& name : aliases) {
    Slot& original = slots_.at(*alias_of(name));
    original.written = true;
    slots_[name].tensor = original.tensor;
    slots_[name].written = true;
  }
}

Io Io::clone() const {
  Io copy;
  copy.slots_ = slots_;
  for (auto& [name, slot] : copy.slots_) slot.tensor.data = slot.memory.data() + kGuard;
  return copy;
}

void Io::add(const std::string& name, const TensorSpec& spec, DType dtype, i64 padding, bool written) {
  Slot& slot = slots_[name];
  const i64 stride = spec.cols + padding;
  slot.written = written;
  slot.memory.assign(static_cast<std::size_t>(2 * kGuard + spec.rows * stride * size_of(dtype)), kSentinel);
  slot.tensor = {slot.memory.data() + kGuard, dtype, Device::cpu, spec.rows, spec.cols, stride};
}

void Io::fill(const std::string& name, const std::function<double(i64)>& value) {
  const Tensor& t = slots_.at(name).tensor;
  i64 i = 0;
  for_elements(t, [&](i64 at) {
    const double x = value(i++);
    const float single = static_cast<float>(x);
    const auto whole = t.dtype == DType::i32 ? static_cast<std::int32_t>(x) : 0;
    const bf16 half = to_bf16(single);
    const void* from = t.dtype == DType::f64    ? static_cast<const void*>(&x)
                       : t.dtype == DType::i32  ? static_cast<const void*>(&whole)
                       : t.dtype == DType::bf16 ? static_cast<const void*>(&half)
                                                : &single;
    std::memcpy(t.data + at, from, static_cast<std::size_t>(size_of(t.dtype)));
  });
}

std::vector<double> Io::values(const std::string& slot) const {
  const Tensor& t = slots_.at(slot).tensor;
  std::vector<double> out;
  for_elements(t, [&](i64 at) {
    const std::byte* p = t.data + at;
    out.push_back(t.dtype == DType::f64    ? *reinterpret_cast<const double*>(p)
                  : t.dtype == DType::i32  ? *reinterpret_cast<const std::int32_t*>(p)
                  : t.dtype == DType::bf16 ? double(to_float(*reinterpret_cast<const bf16*>(p)))
                                           : *reinterpret_cast<const float*>(p));
  });
  return out;
}

std::map<std::string, std::vector<std::byte>> Io::bits(bool written_by_op) const {
  std::map<std::string, std::vector<std::byte>> all;
  for (const auto& [name, slot] : slots_) {
    if (slot.written != written_by_op) continue;
    const Tensor& t = slot.tensor;
    std::vector<std::byte>& bytes = all[name];
    for_elements(t, [&](i64 at) { bytes.insert(bytes.end(), t.data + at, t.data + at + size_of(t.dtype)); });
  }
  return all;
}

std::string Io::damage() const {
  for (const auto& [name, slot] : slots_) {
    if (slot.memory.empty()) continue;          // an alias
    std::vector<std::byte> rest = slot.memory;  // what is left when the elements are taken out
    for_elements(slot.tensor,
                 [&](i64 at) { std::fill_n(rest.begin() + kGuard + at, size_of(slot.tensor.dtype), kSentinel); });
    const auto wrong = std::find_if(rest.begin(), rest.end(), [](std::byte b) { return b != kSentinel; });
    if (wrong != rest.end())
      return fmt::format("{}, at byte {} of its {}", name, wrong - rest.begin() - kGuard, slot.tensor.bytes());
  }
  return "";
}

void Io::on_device(Gpu& gpu, const std::function<void(Io&)>& f) {
  Io there;
  std::map<const std::byte*, std::byte*> moved;  // host memory -> device memory
  for (auto& [name, slot] : slots_) {
    if (slot.memory.empty()) continue;
    const auto bytes = static_cast<i64>(slot.memory.size());
    std::byte* const data = moved[slot.memory.data()] = gpu.allocate(bytes);
    gpu.copy_in(data, slot.memory.data(), bytes);
  }
  for (auto& [name, slot] : slots_) {
    Tensor t = slot.tensor;  // an alias points into the memory of the slot that it lies in
    t.data = moved.at(t.data - kGuard) + kGuard;
    t.device = Device::cuda;
    there.slots_[name].tensor = t;
  }
  f(there);
  gpu.synchronize();
  for (auto& [name, slot] : slots_)
    if (!slot.memory.empty())
      gpu.copy_out(slot.memory.data(), moved.at(slot.memory.data()), static_cast<i64>(slot.memory.size()));
  for (const auto& [host, device] : moved) gpu.release(device);
}

Gpu* test_gpu() {
  static const std::unique_ptr<Gpu> gpu = has_gpu_back_end() ? open_gpu(0) : nullptr;
  return gpu.get();
}

std::vector<Target> targets() {
  if (test_gpu()) return {{Device::cuda, CpuIsa::baseline}};
  std::vector<Target> all;
  if (tiles_are_emulated) {  // what else there is has tests of its own
    if (missing_for(CpuIsa::avx512).empty()) all.push_back({Device::cpu, CpuIsa::amx});
    return all;
  }
  for (const CpuIsa isa : kCpuIsas)
    if (missing_for(isa).empty()) all.push_back({Device::cpu, isa});
  return all;
}

double f32_tolerance(i64 terms, double roundings) { return 0x1p-24 * (roundings + 8 * std::sqrt(double(terms))); }

namespace {

struct Runner {
  const OpCase& op;
  Target target;

  void run(Io& io, int threads = 2) const {
    std::byte memory[1];
    Arena scratch("scratch", memory, 0);
    Context ctx{.device = target.device, .isa = target.isa, .gpu = test_gpu(), .scratch = &scratch};
    const auto both = [&](Io& tensors) {
      op.forward(ctx, tensors);
      if (op.backward) op.backward(ctx, tensors);
    };
    if (target.device == Device::cuda) return io.on_device(*test_gpu(), both);
    const int before = max_threads();
    set_threads(threads);
    both(io);
    set_threads(before);
  }
  Io make(Shape shape, Io::Layout layout) const { return Io(op.tensors(shape), layout, bool(op.backward)); }
};

constexpr double kTwoOrders = 1e-12;  // between two orders of a sum in f64: docs/numerics.md

// |got - want| <= tolerance * the largest |want| of the tensor; infinities must be equal.
void expect_near(const std::string& what, const std::vector<double>& got, const std::vector<double>& want,
                 double tolerance) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double scale = 0, worst = 0;
  std::size_t where = 0;
  for (double x : want)
    if (std::isfinite(x)) scale = std::max(scale, std::fabs(x));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = got[i] == want[i] ? 0 : std::fabs(got[i] - want[i]);
    if (!(error <= worst)) worst = error, where = i;  // NaN counts
    if (std::isnan(worst)) break;
  }
  EXPECT_LE(worst, tolerance * scale) << what << "[" << where << "]: got " << got[where] << ", want " << want[where]
                                      << ", largest " << scale;
}

template <class S>
RefIo<S> reference_inputs(const Io& io, const Tensors& specs) {
  RefIo<S> out;
  for (const TensorSpec& spec : specs) {
    ref::Matrix<S>& m = out(spec.name) = ref::Matrix<S>(spec.rows, spec.cols);
    if (spec.role == Role::output || spec.role == Role::saved) continue;
    const std::vector<double> values = io.values(spec.name);
    m.values.assign(values.begin(), values.end());
  }
  return out;
}

void check_values(const Runner& runner, const Io& done, const Io& fresh, const Tensors& specs) {
  auto reference = reference_inputs<double>(fresh, specs);
  runner.op.meaning.real(reference);
  for (const TensorSpec& spec : specs)
    if (spec.role == Role::output || spec.role == Role::saved || spec.role == Role::inout)
      expect_near(spec.name, done.values(spec.name), reference(spec.name).values, kTwoOrders);
}

// The gradient of sum(dy * y) over all outputs y. An output of -inf is a constant.
void check_gradients(const Runner& runner, const Io& done, const Io& fresh, const Tensors& specs) {
  constexpr double kStep = 1e-50;
  constexpr std::size_t kMost = 400;  // elements per tensor, spread evenly
  const auto inputs = reference_inputs<Complex>(fresh, specs);
  std::map<std::string, std::vector<double>> upstream;
  for (const TensorSpec& spec : specs)
    if (spec.role == Role::output) upstream[spec.name] = fresh.values("d" + spec.name);
  const auto slope = [&](const std::string& name, std::size_t i) {
    auto io = inputs;
    io(name).values[i] += Complex(0, kStep);
    runner.op.meaning.complex(io);
    double sum = 0;
    for (const auto& [y, dy] : upstream)
      for (std::size_t k = 0; k < dy.size(); ++k)
        if (std::isfinite(io(y).values[k].real())) sum += dy[k] * io(y).values[k].imag();
    return sum / kStep;
  };
  for (const TensorSpec& spec : specs) {
    if (spec.role != Role::input && spec.role != Role::parameter) continue;
    const std::vector<double> all = done.values("d" + spec.name);
    const std::size_t stride = 1 + all.size() / kMost;
    std::vector<double> got, want;
    for (std::size_t i = 0; i < all.size(); i += stride) {
      got.push_back(all[i]);
      want.push_back(slope(spec.name, i) + (spec.role == Role::parameter ? 1 : 0));
    }
    for (double x : all) EXPECT_TRUE(std::isfinite(x)) << "d" << spec.name;
    expect_near("d" + spec.name, got, want, 1e-10);
  }
}

// What a narrow type gives, against f64 on the same inputs. An output in bf16 is rounded once more, when it is stored;
// a sum in f64 has another order on a device.
void check_narrow(const Runner& runner, DType type, const Io& narrow, const Io& dbl, const Tensors& specs,
                  Shape shape) {
  const double computed = f32_tolerance(runner.op.terms(shape), runner.op.roundings);
  const bool on_device = runner.target.device == Device::cuda;
  const auto tolerance = [&](DType stored) {
    if (stored == DType::f64 && on_device) return computed + kTwoOrders;
    return stored == DType::bf16 ? computed + 0x1p-8 : computed;
  };
  for (const TensorSpec& spec : specs) {
    if (spec.role == Role::index) continue;
    expect_near(spec.name, narrow.values(spec.name), dbl.values(spec.name), tolerance(spec.dtype(type)));
    if (runner.op.backward && spec.role != Role::saved && spec.role != Role::inout)
      expect_near("d" + spec.name, narrow.values("d" + spec.name), dbl.values("d" + spec.name),
                  tolerance(spec.gradient_dtype(type)));
  }
}

void check_same_bits(const Runner& runner, const Io& done, const Io& fresh, Shape shape, Io::Layout layout) {
  const auto expected = done.bits(true);
  const auto expect_same = [&](const Io& other, const std::string& what) {
    const auto bits = other.bits(true);
    for (const auto& [name, want] : expected) EXPECT_TRUE(bits.at(name) == want) << name << " differs: " << what;
  };
  for (int threads : {2, 1, 3}) {
    Io again = fresh.clone();
    runner.run(again, threads);
    expect_same(again, fmt::format("{} threads", threads));
  }
  for (const auto& alias : runner.op.aliases) {
    if (done.dtype(alias.first) != done.dtype(alias.second)) continue;
    layout.aliases = {alias};
    Io shared = runner.make(shape, layout);
    runner.run(shared);
    const auto bits = shared.bits(true);
    for (const auto& [name, want] : expected) {
      const bool overwritten = name == alias.second;
      EXPECT_TRUE(overwritten || bits.at(name) == want) << name << ": " << alias.first << " in " << alias.second;
    }
  }
}

Io check_one_type(const Runner& runner, Shape shape, const Io::Layout& layout) {
  const Io fresh = runner.make(shape, layout);
  Io done = fresh.clone();
  runner.run(done);
  EXPECT_EQ(done.damage(), "") << "written around a tensor";
  EXPECT_TRUE(done.bits(false) == fresh.bits(false)) << "an input was changed";
  check_same_bits(runner, done, fresh, shape, layout);
  return done;
}

void check_wide(const Runner& runner, Shape shape, i64 padding, bool large) {
  const Tensors specs = runner.op.tensors(shape);
  const Io wide = check_one_type(runner, shape, {DType::f64, padding});
  if (!large) {
    const Io fresh = runner.make(shape, {DType::f64, padding});
    check_values(runner, wide, fresh, specs);
    if (runner.op.backward) check_gradients(runner, wide, fresh, specs);
  }
}

void check_narrow_types(const Runner& runner, Shape shape, i64 padding) {
  for (const DType type : {DType::f32, DType::bf16}) {
    if (type == DType::bf16 && !runner.op.bf16) continue;
    SCOPED_TRACE(name_of(type));
    Io wide = runner.make(shape, {.dtype = DType::f64, .padding = padding, .like_bf16 = type == DType::bf16});
    Runner{runner.op, runner.target.device == Device::cpu ? runner.target : Target{}}.run(wide);
    check_narrow(runner, type, check_one_type(runner, shape, {type, padding}), wide, runner.op.tensors(shape), shape);
  }
}

}  // namespace

void check_op(const OpCase& op) {
  for (const Target& target : targets())
    for (const i64 padding : {0, 5})
      for (const bool large : {false, true})
        for (const Shape& shape : large ? op.large : op.shapes) {
          SCOPED_TRACE(fmt::format("{}, shape {{{}, {}, {}}}, padding {}", target.name(), shape[0], shape[1], shape[2],
                                   padding));
          if (target.device == Device::cpu) check_wide({op, target}, shape, padding, large);
          check_narrow_types({op, target}, shape, padding);
        }
}

}  // namespace xlstm::test
