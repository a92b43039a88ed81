#include "model/init.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"

namespace xlstm {

namespace {

// FNV-1a: a small, fixed map from a name to a number.
std::uint64_t name_key(const std::string& name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

template <class T>
void initialise_one(Context& ctx, Tensor to, const ParamInfo& info, std::uint64_t seed) {
  const i64 n = to.size();
  std::vector<T> values(static_cast<std::size_t>(n));
  T* const w = values.data();
  const Init init = info.init;
  const RandomStream random(seed, RandomUse::init, name_key(info.name));
  parallel_blocks(n, 1 << 15, [&](i64 begin, i64 end) {
    switch (init.kind) {
      case Init::Kind::constant: std::fill(w + begin, w + end, T(init.a)); break;
      case Init::Kind::linspace:
        for (i64 i = begin; i < end; ++i)
          w[i] = T(n == 1 ? init.a : init.a + (init.b - init.a) * double(i) / double(n - 1));
        break;
      case Init::Kind::normal:
        for (i64 i = begin; i < end; i += 4) {
          const auto four = random.normals(static_cast<std::uint64_t>(i / 4));
          for (i64 j = 0; j < std::min<i64>(4, end - i); ++j) w[i + j] = T(init.a * four[static_cast<std::size_t>(j)]);
        }
        break;
    }
  });
  upload(ctx, to, w);
}

}  // namespace

Init small_init(i64 dim) { return Init::normal(std::sqrt(2.0 / (5.0 * static_cast<double>(dim)))); }

Init wang_init(const ModelConfig& cfg) {
  return Init::normal(2.0 / (static_cast<double>(cfg.num_blocks) * std::sqrt(static_cast<double>(cfg.embedding_dim))));
}

void initialise(Context& ctx, const ParamStore& params, std::uint64_t seed, InitialValues into) {
  for (const ParamInfo& info : params.all()) {
    const Tensor to = into == InitialValues::masters ? info.master : info.param.grad;
    if (to.dtype == DType::f64)
      initialise_one<double>(ctx, to, info, seed);
    else
      initialise_one<float>(ctx, to, info, seed);
  }
}

}  // namespace xlstm
