#pragma once
// Norms. What is normalised together (a row, or a head's part of it) is held in the registers of a team of warps, so
// that it is read once. A CTA has 8 warps: one team of 8, or two of 4, four of 2, eight of 1. The teams of a CTA work
// in step, because the barriers are the CTA's.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/elements.cuh"

namespace xlstm::dialect {

constexpr int kTeamWarps = 8, kTeamThreads = 32 * kTeamWarps;  // of a CTA

// E elements per thread, W at a time.
template <int W, int E>
struct Team {
  static constexpr int kRuns = E / W;
  int warps;  // 1, 2, 4 or 8
  int cols;

  static Team of(i64 cols) {
    XL_CHECK(cols <= kTeamThreads * E, "a norm over {} columns; a CTA can hold {}", cols, kTeamThreads * E);
    Team team{1, static_cast<int>(cols)};
    while (team.warps * 32 * E < cols) team.warps *= 2;
    return team;
  }
  XL_HOST_DEVICE int count() const { return kTeamWarps / warps; }  // teams in a CTA

  XL_DEVICE int index() const { return warp_index() / warps; }
  // A warp's columns lie together, so that runs are a constant number of bytes apart: no address of their own.
  XL_DEVICE int column(int run) const { return (warp_index() % warps * kRuns + run) * 32 * W + lane_index() * W; }
  // Without a row to work on a team takes part in barriers and nothing else.
  XL_DEVICE Team only_if(bool has_row) const { return {warps, has_row ? cols : 0}; }

  // f(run, column) for this thread's runs.
  template <class F>
  XL_DEVICE void for_runs(F&& f) const {
    XL_UNROLL
    for (int run = 0; run < kRuns; ++run)
      if (const int at = column(run); at < cols) f(run, at);
  }
};

// x becomes the team's sum, in every thread. All threads of the CTA call it, and every call has another `turn` than the
// one before: two sets of slots, so that one barrier is enough.
constexpr int kTeamSumBytes = 2 * kTeamWarps * 32 * 4;
template <int N>
XL_DEVICE void team_sums(float (&x)[N], int warps, int turn) {
  static_assert(N <= 32);
  XL_UNROLL
  for (int n = 0; n < N; ++n) x[n] = warp_sum(x[n]);
  if (warps == 1) return;
  const std::uint32_t slots = shared_begin() + static_cast<std::uint32_t>(turn % 2) * (kTeamSumBytes / 2);
  const auto slot = [&](int warp, int n) { return slots + static_cast<std::uint32_t>(warp * N + n) * kFloat; };
  if (lane_index() == 0)
    for (int n = 0; n < N; ++n) shared_store(slot(warp_index(), n), x[n]);
  sync_cta();
  const int first = warp_index() / warps * warps;
  XL_UNROLL
  for (int n = 0; n < N; ++n) x[n] = shared_column_sum(slot(first, n), warps, N);
}

// The same for one x per lane, summed up over the team's warps; the team's first warp has the result.
XL_DEVICE float team_lane_sum(float x, int warps, int turn) {
  if (warps == 1) return x;
  const std::uint32_t slots = shared_begin() + static_cast<std::uint32_t>(turn % 2) * (kTeamSumBytes / 2) +
                              static_cast<std::uint32_t>(lane_index()) * kFloat;
  const auto slot = [&](int warp) { return slots + static_cast<std::uint32_t>(warp) * 32 * kFloat; };
  shared_store(slot(warp_index()), x);
  sync_cta();
  return warp_index() % warps == 0 ? shared_column_sum(slot(warp_index()), warps, 32) : 0.f;
}

// partials[column] = sum over the teams of the CTA, from each thread's sums.
template <int W, int E>
XL_DEVICE void store_team_column_sums(float* partials, const float (&sums)[E / W][W], const Team<W, E>& team) {
  const std::uint32_t all = shared_begin() + kTeamSumBytes;
  team.for_runs([&](int run, int column) {
    const int stride = (team.cols + 3) / 4 * 4;  // 16-byte stores
    shared_store_floats<W>(all + static_cast<std::uint32_t>(team.index() * stride + column) * kFloat, sums[run]);
  });
  sync_cta();
  const int stride = (team.cols + 3) / 4 * 4;
  for (int column = thread_index(); column < team.cols; column += kTeamThreads)
    global_store(partials + column,
                 shared_column_sum(all + static_cast<std::uint32_t>(column) * kFloat, team.count(), stride));
}
template <int W, int E>
int team_shared_bytes(const Team<W, E>& team) {
  return kTeamSumBytes + team.count() * ((team.cols + 3) / 4 * 4) * 4;
}

}  // namespace xlstm::dialect
