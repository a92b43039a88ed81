// Matrix products: few rows by few_rows.h; on AMX tile_product.h for f32 and bf16; otherwise oneDNN for f32,
// bf16_product.h for bf16. Plain loops for f64 (gradient checks). C is cut into tiles by shape alone, each one computed
// by one thread, because the bits of a threaded library call depend on their number.
#include <dnnl.h>
#include <omp.h>

#include <atomic>

#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/rows.h"
#if defined(__AVX512F__)
#include "kernels/cpu/tile_product.h"
#endif
#include "kernels/ops.h"
#include "kernels/packed_weights.h"

namespace xlstm::XL_CPU {

namespace {

struct Product {
  i64 M, N, K;
  bool ta, tb, accumulate;
};

// How a dimension of C is cut: into 2^n equal parts, which are even work for any usual number of threads.
struct Cut {
  i64 extent, parts, size;
  Cut(i64 extent_, i64 parts_) : extent(extent_), parts(parts_) {
    constexpr i64 kGrain = 32;  // two vectors of C, a panel of AMX's tiles
    size = ((extent + parts - 1) / parts + kGrain - 1) / kGrain * kGrain;
    parts = (extent + size - 1) / size;
  }
  i64 begin(i64 part) const { return part * size; }
  i64 width(i64 part) const { return std::min(size, extent - begin(part)); }
};

// Tiles of at most 512 x 512: the library then reaches 90-100 % of what one call over the whole of C does. The longer
// side is halved until there are 8 tiles, but not below 256 x 256, where the library gets slow; for 4 tiles down to
// 128 x 128.
std::pair<Cut, Cut> tiles_of(i64 M, i64 N) {
  constexpr i64 kLargest = 512;
  i64 rows = 1, cols = 1;
  while (M > kLargest * rows) rows *= 2;
  while (N > kLargest * cols) cols *= 2;
  for (const auto& [tiles, smallest] : {std::pair<i64, i64>{8, 256}, {4, 128}})
    while (rows * cols < tiles && std::max(M / rows, N / cols) > smallest) (M / rows >= N / cols ? rows : cols) *= 2;
  return {Cut(M, rows), Cut(N, cols)};
}

// The library starts OpenMP threads of its own unless its caller's thread is told that there is only one.
void call_with_one_thread() {
  thread_local bool told = false;
  if (!std::exchange(told, true)) omp_set_num_threads(1);
}

// A tile of c that was just written, and is still in a cache: += z.
void add_tile(Tensor c, Tensor z, i64 m, i64 n, i64 rows, i64 cols) {
  const RowsOf<float> out(c), in(z);
  for (i64 r = m; r < m + rows; ++r)
    for_lanes<float>(cols, [&](i64 j, i64 lanes) {
      store(out[r] + n + j, load(out[r] + n + j, lanes) + load(in[r] + n + j, lanes), lanes);
    });
}

// z: what is added to the product, or nothing.
bool multiply_by_library(const Product& p, Tensor c, Tensor z, Tensor a, Tensor b) {
  const auto [rows, cols] = tiles_of(p.M, p.N);
  const float *const pa = a.row<float>(), *const pb = b.row<float>();
  float* const pc = c.row<float>();
  std::atomic<bool> ok = true;
  parallel_for(rows.parts * cols.parts, [&, rows = rows, cols = cols](i64 task) {
    call_with_one_thread();
    const i64 m = rows.begin(task / cols.parts), n = cols.begin(task % cols.parts);
    const i64 height = rows.width(task / cols.parts), width = cols.width(task % cols.parts);
    const dnnl_status_t status =
        dnnl_sgemm(p.ta ? 'T' : 'N', p.tb ? 'T' : 'N', height, width, p.K, 1.0f, pa + (p.ta ? m : m * a.row_stride),
                   a.row_stride, pb + (p.tb ? n * b.row_stride : n), b.row_stride, p.accumulate ? 1.0f : 0.0f,
                   pc + m * c.row_stride + n, c.row_stride);
    if (status != dnnl_success) ok = false;
    if (z.rows > 0) add_tile(c, z, m, n, height, width);
  });
  return ok;
}

// What was summed in f32 to c, which is bf16, or has something added to it that is not its own.
void store_sums(const float* sums, i64 ld, Tensor c, Tensor z, bool accumulate, i64 m, i64 n, i64 rows, i64 cols) {
  const Tensor added = accumulate ? c : z;
  with_element_type(c.dtype, [&]<class E, class T>() {
    if constexpr (std::is_same_v<T, float>) {
      const RowsOf<E> out(c), in(added.rows > 0 ? added : c);
      for (i64 r = 0; r < rows; ++r)
        for_lanes<float>(cols, [&](i64 j, i64 lanes) {
          const Vec<float> sum = load(sums + r * ld + j, lanes);
          store(out[m + r] + n + j, added.rows > 0 ? load(in[m + r] + n + j, lanes) + sum : sum, lanes);
        });
    }
  });
}

// Rows up to which reading b once, from where it lies, beats packing it: on AMX, and in the library, it is packed for
// the rows after these.
template <class E>
i64 most_few_rows(CpuIsa isa) {
  return std::is_same_v<E, bf16> && isa != CpuIsa::amx ? kMostFewRows : kFewRows;
}

// p.M of at most kMostFewRows rows
template <class E>
void multiply_few(const Product& p, Tensor c, Tensor z, Tensor a, Tensor b) {
  constexpr i64 kBlock = 64;  // columns of c at a time
  const RowsOf<E> left(a), right(b);
  parallel_blocks(p.N, kBlock, [&](i64 begin, i64 end) {
    float block[kMostFewRows][kBlock];
    for (i64 j = begin; j < end; j += kFewColumns)
      for (i64 i = 0; i < p.M; i += kFewRows) {  // rows of b stay in the first-level cache
        float sums[kFewRows][kFewColumns];
        const i64 columns = std::min(kFewColumns, end - j), rows = std::min(kFewRows, p.M - i);
        multiply_few_rows(rows, left[i], a.row_stride, right[j], b.row_stride, columns, p.K, sums);
        for (i64 r = 0; r < rows; ++r) std::copy_n(sums[r], columns, block[i + r] + j - begin);
      }
    store_sums(block[0], kBlock, c, z, p.accumulate, 0, begin, p.M, end - begin);
  });
}

// In rectangles of at most `columns` columns: multiply(tile, finish)
template <class E, class F>
void multiply_cut(const Product& p, Tensor c, Tensor z, Tensor a, Tensor b, const std::uint32_t* packed_b, i64 columns,
                  F&& multiply) {
  const auto [rows, cols] = tiles_of(p.M, p.N);
  const Operand<E> left{a.row<E>(), a.row_stride, p.ta}, right{b.row<E>(), b.row_stride, p.tb};
  const bool in_place = c.dtype == DType::f32 && z.rows == 0;
  parallel_for(rows.parts * cols.parts, [&, rows = rows, cols = cols](i64 task) {
    const i64 m = rows.begin(task / cols.parts), height = rows.width(task / cols.parts);
    const i64 begin = cols.begin(task % cols.parts), end = begin + cols.width(task % cols.parts);
    for (i64 n = begin; n < end; n += columns) {
      const i64 width = std::min(columns, end - n);
      float* const out = in_place ? c.row<float>(m) + n : nullptr;
      multiply({left, right, p.K, m, height, n, width, out, c.row_stride, p.accumulate, packed_b},
               [&](const float* sums, i64 ld) { store_sums(sums, ld, c, z, p.accumulate, m, n, height, width); });
    }
  });
}

#if defined(__AVX512F__)
// b of a b^T as it is packed until the next update, or null
const std::uint32_t* packed_once(PackedWeights* packed, const Product& p, Tensor b) {
  const PackedWeights::Place place = packed && p.tb ? packed->take(b) : PackedWeights::Place{};
  if (!place.words || place.ready) return place.words;
  const i64 steps = p.K / kTileTerms;
  parallel_for(p.N / kPanelSide, [&](i64 panel) {
    pack_operand<bf16>(place.words + panel * steps * TileBlocks<bf16>::kStepWords,
                       {b.row<bf16>(), b.row_stride, /*transposed=*/true}, /*left=*/false, panel * kPanelSide,
                       kPanelSide, 0, p.K, steps);
  });
  return place.words;
}

template <class E>
void multiply_by_tiles(const Product& p, PackedWeights* packed, Tensor c, Tensor z, Tensor a, Tensor b) {
  const std::uint32_t* packed_b = nullptr;
  if constexpr (std::is_same_v<E, bf16>) packed_b = packed_once(packed, p, b);
  multiply_cut<E>(p, c, z, a, b, packed_b, TileBlocks<E>::kColumns,
                  [](const ProductTile<E>& tile, const auto& finish) { multiply_on_tiles(tile, std::cref(finish)); });
}
#else
template <class E>
void multiply_by_tiles(const Product&, PackedWeights*, Tensor, Tensor, Tensor, Tensor) {}
#endif

void multiply_f32(const Context& ctx, const Product& p, Tensor c, Tensor z, Tensor a, Tensor b) {
  if (ctx.isa == CpuIsa::amx) return multiply_by_tiles<float>(p, ctx.packed, c, z, a, b);
  XL_CHECK(multiply_by_library(p, c, z, a, b), "dnnl_sgemm refused M {}, N {}, K {}", p.M, p.N, p.K);
}

void multiply_bf16(const Context& ctx, const Product& p, Tensor c, Tensor z, Tensor a, Tensor b) {
  if (ctx.isa == CpuIsa::amx) return multiply_by_tiles<bf16>(p, ctx.packed, c, z, a, b);
  multiply_cut<bf16>(p, c, z, a, b, /*packed_b=*/nullptr, ProductBlocks::kColumns,
                     [](const ProductTile<bf16>& tile, const auto& finish) { multiply_widened(tile, finish); });
}

void multiply_f64(const Product& p, Tensor c, Tensor z, Tensor a, Tensor b) {
  const RowsOf<double> out(c), left(a), right(b);
  const auto at_a = [&](i64 m, i64 k) { return p.ta ? left[k][m] : left[m][k]; };
  parallel_blocks(p.M, 8, [&](i64 begin, i64 end) {
    for (i64 m = begin; m < end; ++m) {
      if (!p.accumulate) std::fill_n(out[m], p.N, 0.0);
      if (p.tb) {
        for (i64 n = 0; n < p.N; ++n) {
          double dot = 0;
          for (i64 k = 0; k < p.K; ++k) dot += at_a(m, k) * right[n][k];
          out[m][n] += dot;
        }
      } else {
        for (i64 k = 0; k < p.K; ++k) {
          const double x = at_a(m, k);
          for (i64 n = 0; n < p.N; ++n) out[m][n] += x * right[k][n];
        }
      }
      if (z.rows > 0)
        for (i64 n = 0; n < p.N; ++n) out[m][n] += z.row<double>(m)[n];
    }
  });
}

void multiply(Context& ctx, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  const Product p{c.rows,          c.cols, flags.transpose_a ? a.rows : a.cols, flags.transpose_a, flags.transpose_b,
                  flags.accumulate};
  const auto few = [&]<class E>(E) { return !p.ta && p.tb && p.M <= most_few_rows<E>(ctx.isa); };
  if (a.dtype == DType::f32) {
    few(float{}) ? multiply_few<float>(p, c, z, a, b) : multiply_f32(ctx, p, c, z, a, b);
  } else if (a.dtype == DType::bf16) {
    few(bf16{}) ? multiply_few<bf16>(p, c, z, a, b) : multiply_bf16(ctx, p, c, z, a, b);
  } else {
    XL_CHECK(a.dtype == DType::f64, "no CPU kernel for {}", name_of(a.dtype));
    multiply_f64(p, c, z, a, b);
  }
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 2.0 * double(p.M) * double(p.N) * double(p.K));
}

}  // namespace

void matmul(Context& ctx, Tensor c, Tensor a, Tensor b, MatmulFlags flags) {
  check_product(c, a, b, flags);
  multiply(ctx, c, /*z=*/{}, a, b, flags);
}

void matmul_add(Context& ctx, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  check_sum(c, z, a, b, flags);
  multiply(ctx, c, z, a, b, flags);
}

}  // namespace xlstm::XL_CPU
