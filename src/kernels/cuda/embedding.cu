// Rows of a table, and their gradients without atomics and without a sort.
#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

using namespace dialect;

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

template <class T>
struct Gather {
  Rows<T> y, table;
  Rows<std::int32_t> ids;
  i64 rows, cols, vocab;
};

// A warp per row; four accesses of every lane in flight.
template <class T, int W>
XL_KERNEL(kThreads, 4)
gather_rows(const Gather<T> g) {
  constexpr int kDepth = 4, kStep = 32 * W;
  const i64 row = i64{block_index().x} * kWarps + warp_index();
  if (row >= g.rows) return;
  const i64 id = global_load(g.ids.row(row));
  const bool known = 0 <= id && id < g.vocab;
  const T* const from = g.table.row(known ? id : 0);
  T* const to = g.y.row(row);
  for (i64 first = lane_index() * W; first < g.cols; first += kDepth * kStep) {
    float x[kDepth][W];
    XL_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      for (int i = 0; i < W; ++i) x[k][i] = std::numeric_limits<float>::quiet_NaN();
      if (known && first + k * kStep < g.cols) load_floats<W>(x[k], from + first + k * kStep);
    }
    XL_UNROLL
    for (int k = 0; k < kDepth; ++k)
      if (first + k * kStep < g.cols) store_floats<W>(to + first + k * kStep, x[k]);
  }
}

// CTA x owns the ids that are x modulo `groups`, at most kOwnIds of them, and CTA y a tile of columns: kWarps pieces of
// one access per lane. Neighbouring ids, which are often frequent together, belong to different CTAs.
template <class T>
struct Scatter {
  Rows<float> dtable;
  Rows<T> dy;
  Rows<std::int32_t> ids;
  i64 rows, cols, vocab;
  int log_groups;
};

// An entry of a list: row << 4 | (id >> log_groups).
constexpr int kEntryBits = 4, kOwnIds = 1 << kEntryBits;
constexpr i64 kMostRows = i64{1} << (32 - kEntryBits);
constexpr int kScan = 8 * 32, kMostFound = 512;  // ids that a warp looks at together; rows that it finds in one round
// Shared memory: what each warp found, how much that is, and the same as one list.
constexpr std::uint32_t kFound = 0, kCounts = kWarps * kMostFound * 4, kList = kCounts + 4 * kWarps;
constexpr int kScatterBytes = static_cast<int>(kList) + kWarps * kMostFound * 4;
constexpr std::uint32_t kMore = 1u << 31;  // in a count: the warp has not seen all of its rows yet

XL_DEVICE std::uint32_t entry_at(std::uint32_t list, int i) {
  return shared_begin() + list + 4 * static_cast<std::uint32_t>(i);
}

// Rows [at, end) in order, until the list of this warp is full. Returns how many were found.
template <class T>
XL_DEVICE int find_rows(const Scatter<T>& s, i64& at, i64 end) {
  const std::uint32_t mask = (1u << s.log_groups) - 1, below = (1u << lane_index()) - 1;
  int found = 0;
  for (; at < end && found <= kMostFound - kScan; at += kScan) {
    std::int32_t id[kScan / 32];
    XL_UNROLL
    for (int j = 0; j < kScan / 32; ++j) {
      const i64 row = at + 32 * j + lane_index();
      id[j] = row < end ? global_load(s.ids.row(row)) : -1;
    }
    bool any = false;
    XL_UNROLL
    for (int j = 0; j < kScan / 32; ++j) {
      if (id[j] >= s.vocab || (static_cast<std::uint32_t>(id[j]) & mask) != block_index().x) id[j] = -1;
      any |= id[j] >= 0;
    }
    if (ballot(any) == 0) continue;
    XL_UNROLL
    for (int j = 0; j < kScan / 32; ++j) {
      const bool mine = id[j] >= 0;
      const std::uint32_t all = ballot(mine);
      const auto row = static_cast<std::uint32_t>(at + 32 * j + lane_index());
      if (mine)
        shared_store(entry_at(kFound, warp_index() * kMostFound + found + count_bits(all & below)),
                     row << kEntryBits | static_cast<std::uint32_t>(id[j]) >> s.log_groups);
      found += count_bits(all);
    }
  }
  return found;
}

// The warps' lists behind one another: in the order of the rows, since each warp has a stretch of its own.
XL_DEVICE int join_lists(int found, bool& more) {
  int total = 0, before = 0;
  more = false;
  XL_UNROLL
  for (int warp = 0; warp < kWarps; ++warp) {
    const auto count = shared_load<std::uint32_t>(entry_at(kCounts, warp));
    if (warp == warp_index()) before = total;
    total += static_cast<int>(count & ~kMore);
    more |= (count & kMore) != 0;
  }
  for (int i = lane_index(); i < found; i += 32)
    shared_store(entry_at(kList, before + i),
                 shared_load<std::uint32_t>(entry_at(kFound, warp_index() * kMostFound + i)));
  return total;
}

// W elements of a row, packed as they lie in memory until they are added.
template <class T, int W>
struct Piece {
  float x[W];
  XL_DEVICE void load(const T* p) { load_floats<W>(x, p); }
  XL_DEVICE void add_to(float (&sum)[W]) const {
    for (int j = 0; j < W; ++j) sum[j] += x[j];
  }
};
template <>
struct Piece<bf16, 8> {
  Words4 x;
  XL_DEVICE void load(const bf16* p) { x = global_load(reinterpret_cast<const Words4*>(p)); }
  XL_DEVICE void add_to(float (&sum)[8]) const {
    for (int j = 0; j < 4; ++j) sum[2 * j] += low_half(x.w[j]), sum[2 * j + 1] += high_half(x.w[j]);
  }
};

// dtable's elements of one id in W columns, read and written once: dy's rows are added in order, eight in flight.
template <class T, int W>
XL_DEVICE void add_rows(const Scatter<T>& s, int total, int own_id, i64 column) {
  constexpr int kDepth = 8;
  const bool inside = column < s.cols;
  float* const to = s.dtable.row((i64{own_id} << s.log_groups) + block_index().x) + column;
  float sum[W] = {};
  bool found = false;
  for (int first = 0; first < total; first += 32) {
    const int i = first + lane_index();
    const std::uint32_t entry = i < total ? shared_load<std::uint32_t>(entry_at(kList, i)) : 0;
    std::uint32_t rest = ballot(i < total && (entry & (kOwnIds - 1)) == static_cast<std::uint32_t>(own_id));
    if (rest != 0 && !found && inside) load_floats<W>(sum, to);
    found |= rest != 0;
    while (rest != 0) {
      Piece<T, W> x[kDepth] = {};
      const int count = count_bits(rest);
      XL_UNROLL
      for (int k = 0; k < kDepth; ++k) {
        if (k >= count) continue;
        const i64 row = shuffle_from(entry, lowest_bit(rest)) >> kEntryBits;
        if (inside) x[k].load(s.dy.row(row) + column);
        rest &= rest - 1;
      }
      XL_UNROLL
      for (int k = 0; k < kDepth; ++k)
        if (k < count) x[k].add_to(sum);
    }
  }
  if (found && inside) store_floats<W>(to, sum);
}

// Besides dy once and the occurring rows of dtable twice, every CTA reads all ids, from the caches. Only where one
// round finds more than kMostFound rows in a warp's stretch is dtable read and written again.
template <class T, int W>
XL_KERNEL(kThreads, 3)
scatter_rows(const Scatter<T> s) {
  const i64 first = i64{block_index().y} * kWarps * 32 * W, left = (s.cols - first + 32 * W - 1) / (32 * W);
  const int pieces = left < kWarps ? static_cast<int>(left) : kWarps;
  const int own_ids = static_cast<int>((s.vocab - block_index().x + (i64{1} << s.log_groups) - 1) >> s.log_groups);
  const i64 stretch = (s.rows + kWarps * kScan - 1) / (kWarps * kScan) * kScan;
  i64 at = warp_index() * stretch;
  const i64 end = at + stretch < s.rows ? at + stretch : s.rows;
  for (bool more = true; more;) {
    const int found = find_rows(s, at, end);
    if (lane_index() == 0)
      shared_store(entry_at(kCounts, warp_index()), static_cast<std::uint32_t>(found) | (at < end ? kMore : 0u));
    sync_cta();
    const int total = join_lists(found, more);
    sync_cta();
    if (total == 0) continue;
    for (int item = warp_index(); item < own_ids * pieces; item += kWarps)
      add_rows<T, W>(s, total, item / pieces, first + (item % pieces * 32 + lane_index()) * W);
  }
}

void check_embedding(const Tensor& y, const Tensor& ids, const Tensor& table, DType table_type) {
  check_shape(y, y.rows, table.cols, y.dtype);
  check_shape(ids, y.rows, 1, DType::i32);
  check_shape(table, table.rows, table.cols, table_type);
  XL_CHECK(table.rows > 0 && table.rows < (i64{1} << 31) && y.rows < kMostRows, "{} rows from a table of {}", y.rows,
           table.rows);
}

}  // namespace

void embedding_forward(Context& ctx, Tensor y, Tensor ids, Tensor table) {
  check_embedding(y, ids, table, y.dtype);
  with_gpu_type(y.dtype, [&]<class T>() {
    const Gather<T> g{rows_of<T>(y), rows_of<T>(table), rows_of<std::int32_t>(ids), y.rows, y.cols, table.rows};
    launch(ctx, {.x = (y.rows + kWarps - 1) / kWarps, .threads = kThreads},
           all_wide(y, table) ? &gather_rows<T, kWide<T>> : &gather_rows<T, 1>, g);
  });
}

void embedding_backward(Context& ctx, Tensor dtable, Tensor dy, Tensor ids) {
  check_embedding(dy, ids, dtable, DType::f32);
  if (dy.rows == 0) return;
  // Many CTAs for a small table, few readings of all ids for a large one.
  constexpr i64 kEnough = 1024;
  const i64 wanted = std::max((dtable.rows + kOwnIds - 1) / kOwnIds, std::min(dtable.rows, kEnough));
  const int log_groups = std::bit_width(static_cast<std::uint64_t>(wanted - 1));
  with_gpu_type(dy.dtype, [&]<class T>() {
    const Scatter<T> s{
        rows_of<float>(dtable), rows_of<T>(dy), rows_of<std::int32_t>(ids), dy.rows, dy.cols, dtable.rows, log_groups};
    const bool wide = all_wide(dtable, dy);
    const i64 tile = i64{kThreads} * (wide ? kWide<T> : 1);
    launch(ctx,
           {.x = std::min(dtable.rows, i64{1} << log_groups),
            .y = (dy.cols + tile - 1) / tile,
            .threads = kThreads,
            .shared_bytes = kScatterBytes},
           wide ? &scatter_rows<T, kWide<T>> : &scatter_rows<T, 1>, s);
  });
}

}  // namespace xlstm::gpu
