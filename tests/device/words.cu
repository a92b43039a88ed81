// The words of every GPU. See words.h.
#include "kernels/cuda/dialect.h"
#include "kernels/cuda/launch.h"
#include "tests/device/words.h"

namespace xlstm::test {

using namespace dialect;

namespace {

XL_KERNEL(32, 1) lane_words(float* out) {
  const int lane = lane_index();
  const float x = static_cast<float>(lane + 1);
  const std::uint32_t pair = pack_bf16(x, -x), product = multiply_bf16x2(pair, pack_bf16(3.0F, 0.5F));
  const std::uint32_t odd = ballot(lane % 2 == 1);
  const float results[kLaneResults] = {
      shuffle_xor(x, 5),
      shuffle_up(x, 3),
      shuffle_down(x, 3),
      shuffle_from(x, 7),
      low_half(pair),
      high_half(pair),
      low_half(product),
      high_half(product),
      static_cast<float>(count_bits(odd >> lane)),
      static_cast<float>(lowest_bit(static_cast<std::uint32_t>(lane + 1))),
      exp2_fast(x - 16),
      // ties to even: 1 + 2^-8 lies between 1 and 1 + 2^-7
      low_half(pack_bf16(1.0F + 0.00390625F * x, 0.0F)),
  };
  for (int i = 0; i < kLaneResults; ++i) global_store(out + lane * kLaneResults + i, results[i]);
}

XL_KERNEL(32, 1) copy_words(std::uint32_t* out, const std::uint32_t* from) {
  const int lane = lane_index();
  const std::uint32_t mine = shared_begin() + static_cast<std::uint32_t>(lane) * 16;
  for (std::uint32_t i = 0; i < 4; ++i) shared_store(mine + 4 * i, 0xffffffffu);
  copy_async_16(mine, from + 4 * lane, static_cast<std::uint32_t>(lane % 17));
  commit_copies();
  wait_copies<0>();
  sync_cta();
  for (int i = 0; i < 4; ++i)  // the neighbour's: of other threads, too
    global_store(out + 4 * (lane ^ 1) + i,
                 shared_load<std::uint32_t>((mine ^ 16u) + 4 * static_cast<std::uint32_t>(i)));
}

// Rows of 16 bf16, 32 bytes each.
XL_DEVICE void rows_to_shared(std::uint32_t to, const bf16* from, int rows) {
  const auto* words = reinterpret_cast<const std::uint32_t*>(from);
  for (int i = lane_index(); i < rows * 8; i += 32)
    shared_store(to + 4 * static_cast<std::uint32_t>(i), global_load(words + i));
}

XL_KERNEL(32, 1)
matrix_words(std::uint32_t* loaded, std::uint32_t* transposed, float* c, const bf16* a, const bf16* b) {
  const int lane = lane_index();
  const std::uint32_t left = shared_begin(), right = left + 512;
  rows_to_shared(left, a, 16);
  rows_to_shared(right, b, 8);
  sync_cta();
  const auto at = static_cast<std::uint32_t>((lane % 16) * 32 + lane / 16 * 16);
  std::uint32_t r[4], t[4];
  load_matrices(r, left + at);
  load_matrices_transposed(t, left + at);
  for (int j = 0; j < 4; ++j) {
    global_store(loaded + j * 32 + lane, r[j]);
    global_store(transposed + j * 32 + lane, t[j]);
  }
  const std::uint32_t column = right + static_cast<std::uint32_t>(lane / 4 * 32 + lane % 4 * 4);
  float y[4] = {};
  mma_16x8x16(y, r, shared_load<std::uint32_t>(column), shared_load<std::uint32_t>(column + 16));
  for (int j = 0; j < 4; ++j) global_store(c + (lane / 4 + j / 2 * 8) * 8 + lane % 4 * 2 + j % 2, y[j]);
}

}  // namespace

void run_lane_words(Context& ctx, float* out) { launch(ctx, {.threads = 32}, &lane_words, out); }

void run_copy_words(Context& ctx, std::uint32_t* out, const std::uint32_t* from) {
  launch(ctx, {.threads = 32, .shared_bytes = 512}, &copy_words, out, from);
}

void run_matrix_words(Context& ctx, std::uint32_t* loaded, std::uint32_t* transposed, float* c, const bf16* a,
                      const bf16* b) {
  launch(ctx, {.threads = 32, .shared_bytes = 768}, &matrix_words, loaded, transposed, c, a, b);
}

}  // namespace xlstm::test
