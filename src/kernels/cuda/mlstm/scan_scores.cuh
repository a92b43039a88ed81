#pragma once
// Inside a chunk: P = (x w^T) D, masked to the triangle and to the segment, and the normaliser of the forward pass.
#include "kernels/cuda/mlstm/scan_layout.cuh"

namespace xlstm::mlstm {

using namespace dialect;

template <int kDx, bool kReverse>
XL_DEVICE void compute_scores(bool normalize) {
  using L = ScanLayout<kDx>;
  const int lane = lane_index(), first_row = warp_index() / 2 * 16, first_column = warp_index() % 2 * 32;
  float score[4][4] = {};
  const bool any = kReverse ? first_column + 31 >= first_row : first_column <= first_row + 15;
  if (any) {
    XL_UNROLL
    for (int k = 0; k < kDx / 16; ++k) {
      std::uint32_t a[4], b[4];
      load_matrices(a, square_address(L::x(), rows_first(), first_row / 16, k));
      XL_UNROLL
      for (int half = 0; half < 2; ++half) {
        load_matrices(b, square_address(L::w(), columns_first(), first_column / 16 + half, k));
        mma_16x8x16(score[2 * half], a, b[0], b[1]);
        mma_16x8x16(score[2 * half + 1], a, b[2], b[3]);
      }
    }
  }
  float sums[2] = {0, 0};
  XL_UNROLL
  for (int upper = 0; upper < 2; ++upper) {
    const int row = first_row + lane / 4 + 8 * upper;
    const float exponent = vector_at(L::row(), row);
    const int row_segment = shared_load<int>(L::segment() + static_cast<std::uint32_t>(row) * 4);
    XL_UNROLL
    for (int n = 0; n < 4; ++n) {
      float p[2];
      XL_UNROLL
      for (int j = 0; j < 2; ++j) {
        const int column = first_column + n * 8 + (lane & 3) * 2 + j;
        const bool keep =
            kReverse ? column >= row && shared_load<int>(L::segment() + static_cast<std::uint32_t>(column) * 4) <= row
                     : column <= row && row_segment <= column;
        const float decay = exp2_fast(exponent + vector_at(L::column(), column));
        p[j] = keep ? score[n][2 * upper + j] * decay : 0.f;
        sums[upper] += p[j];
      }
      shared_store(tile_address(L::p(), row, (first_column + n * 8) / 8) + static_cast<std::uint32_t>(lane & 3) * 4,
                   pack_bf16(p[0], p[1]));
    }
  }
  if (!normalize) return;
  XL_UNROLL
  for (int upper = 0; upper < 2; ++upper) {
    sums[upper] += shuffle_xor(sums[upper], 1);
    sums[upper] += shuffle_xor(sums[upper], 2);
    const int row = first_row + lane / 4 + 8 * upper;
    if ((lane & 3) == 0)
      shared_store(L::sums() + static_cast<std::uint32_t>((warp_index() % 2) * 64 + row) * 4, sums[upper]);
  }
}

// --- normaliser

template <int kDx>
XL_DEVICE void fill_normalizer(const Scan& s, const float* first_n, i64 head) {
  using L = ScanLayout<kDx>;
  for (int d = thread_index(); d < kDx; d += kThreads)
    shared_store(L::n() + static_cast<std::uint32_t>(d) * 4,
                 first_n && d < s.dx ? global_load(first_n + head * s.dx + d) : 0.f);
}
template <int kDx>
XL_DEVICE void store_normalizer(const Scan& s, float* last_n, i64 head) {
  for (int d = thread_index(); d < s.dx; d += kThreads)
    global_store(last_n + head * s.dx + d, vector_at(ScanLayout<kDx>::n(), d));
}

// q n, four threads to a row
template <int kDx>
XL_DEVICE void query_normalizer() {
  using L = ScanLayout<kDx>;
  const int row = thread_index() / 4, part = thread_index() & 3;
  float sum = 0;
  for (int pair = part; pair < kDx / 2; pair += 4) {
    const std::uint32_t x =
        shared_load<std::uint32_t>(tile_address(L::x(), row, pair / 4) + static_cast<std::uint32_t>(pair & 3) * 4);
    sum += low_half(x) * vector_at(L::n(), 2 * pair) + high_half(x) * vector_at(L::n(), 2 * pair + 1);
  }
  sum += shuffle_xor(sum, 1);
  sum += shuffle_xor(sum, 2);
  if (part == 0) shared_store(L::query_n() + static_cast<std::uint32_t>(row) * 4, sum);
}

// N = max(|n q|, e^-m) and what to multiply h with
template <int kDx>
XL_DEVICE void compute_inverse(const Scan& s, i64 head, int first) {
  using L = ScanLayout<kDx>;
  const int t = thread_index();
  if (t >= kChunk) return;
  const float nq =
      vector_at(L::read(), t) * vector_at(L::query_n(), t) + vector_at(L::sums(), t) + vector_at(L::sums(), 64 + t);
  const float size = nq < 0 ? -nq : nq, floor = exp2_fast(-1.44269504f * vector_at(L::max(), t));
  const float denominator = size > floor ? size : floor;
  shared_store(L::inverse() + static_cast<std::uint32_t>(t) * 4, 1.f / (denominator + s.shape.eps));
  if (block_index().x == 0 && first + t < s.shape.tokens)
    global_store(s.denominator.data + (head / s.shape.heads * s.shape.tokens + first + t) * s.denominator.stride +
                     head % s.shape.heads,
                 denominator);
}

// n <- decay n + sum write_s k_s, two columns to a thread
template <int kDx>
XL_DEVICE void update_normalizer(float decay) {
  using L = ScanLayout<kDx>;
  for (int pair = thread_index(); pair < kDx / 2; pair += kThreads) {
    float lo = decay * vector_at(L::n(), 2 * pair), hi = decay * vector_at(L::n(), 2 * pair + 1);
    for (int row = 0; row < kChunk; ++row) {
      const std::uint32_t k =
          shared_load<std::uint32_t>(tile_address(L::w(), row, pair / 4) + static_cast<std::uint32_t>(pair & 3) * 4);
      const float weight = vector_at(L::write(), row);
      lo += weight * low_half(k);
      hi += weight * high_half(k);
    }
    shared_store(L::n() + static_cast<std::uint32_t>(2 * pair) * 4, lo);
    shared_store(L::n() + static_cast<std::uint32_t>(2 * pair + 1) * 4, hi);
  }
}

}  // namespace xlstm::mlstm
