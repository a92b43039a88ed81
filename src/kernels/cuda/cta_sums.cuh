#pragma once
// Sums and maxima over all threads of a CTA: every thread has the result, always by the same tree.
#include "kernels/cuda/elements.cuh"

namespace xlstm::dialect {

namespace detail {

// `at`: shared memory for one T of every warp; nobody else may use it before the next barrier behind the call.
template <int kWarps, class T, class F>
XL_DEVICE T combine_warps(T x, std::uint32_t at, F&& combine) {
  if (lane_index() == 0) shared_store(at + static_cast<std::uint32_t>(warp_index() * int{sizeof(T)}), x);
  sync_cta();
  T all = shared_load<T>(at);
  XL_UNROLL
  for (int warp = 1; warp < kWarps; ++warp)
    all = combine(all, shared_load<T>(at + static_cast<std::uint32_t>(warp * int{sizeof(T)})));
  return all;
}

}  // namespace detail

template <int kWarps, class T>
XL_DEVICE T cta_sum(T x, std::uint32_t at) {
  return detail::combine_warps<kWarps>(warp_sum(x), at, [](T a, T b) { return a + b; });
}
template <int kWarps>
XL_DEVICE float cta_max(float x, std::uint32_t at) {
  return detail::combine_warps<kWarps>(warp_max(x), at, [](float a, float b) { return a > b ? a : b; });
}

}  // namespace xlstm::dialect
