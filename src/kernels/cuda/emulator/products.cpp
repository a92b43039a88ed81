#include "kernels/cuda/emulator/products.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/bf16.h"
#include "kernels/cuda/emulator/tensor_map.h"

namespace xlstm::emulator {

namespace {

constexpr std::uint32_t kInFlight = 0x7fffdead;  // NaN

std::uint32_t field(Descriptor d, int bit) { return static_cast<std::uint32_t>(d >> bit & 0x3fff) << 4; }

// Byte address of element (row, k) of an operand: rows are those of A, or the columns of B. Not transposed, k is
// contiguous: rows of 64 k, in groups of 8 that lie a stride apart. Transposed, rows are contiguous: k after k in
// groups of 8 that lie a stride apart, and behind 64 rows the next ones a leading offset away.
std::uint32_t element_address(Descriptor d, bool transposed, int row, int k) {
  const auto r = static_cast<std::uint32_t>(row), kk = static_cast<std::uint32_t>(k);
  const std::uint32_t stride = field(d, 32), leading = field(d, 16);
  const std::uint32_t at = field(d, 0) + (transposed ? r / 64 * leading + kk / 8 * stride + kk % 8 * 128 + r % 64 * 2
                                                     : r / 8 * stride + r % 8 * 128 + kk * 2);
  return swizzled(at);
}

}  // namespace

float ProductQueue::element(Descriptor d, bool transposed, int row, int k) const {
  bf16 x;
  std::memcpy(&x, shared_.async_view(element_address(d, transposed, row, k)), sizeof x);
  return to_float(x);
}

std::shared_ptr<ProductQueue::Accumulators> ProductQueue::accumulators(const ProductRequest& request) {
  for (auto p = in_flight_.rbegin(); p != in_flight_.rend(); ++p)
    if (p->out->lanes[0] == request.lanes[0].c) {
      if (p->out->each != request.columns / 2)
        throw EmulatorFault("accumulators of a product that is not over, in another shape");
      return p->out;
    }
  auto out = std::make_shared<Accumulators>();
  out->each = request.columns / 2;
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) {
    float* const c = request.lanes[lane].c;
    out->lanes[lane] = c;
    out->values.insert(out->values.end(), c, c + out->each);
    std::fill_n(c, out->each, std::bit_cast<float>(kInFlight));
  }
  return out;
}

void ProductQueue::collect_reads(Product& p) const {
  const auto add = [&](Descriptor d, bool transposed, int first_row, int rows) {
    if (d >> 62 != 1) throw EmulatorFault("descriptor: only the swizzle of 128 bytes is known");
    // Eight neighbours in memory make a piece.
    for (int r = 0; r < rows; r += transposed ? 8 : 1)
      for (int k = 0; k < 16; k += transposed ? 1 : 8)
        p.reads.push_back({element_address(d, transposed, first_row + r, k)});
  };
  if (!p.request.lanes[0].a) add(p.request.a, p.request.transpose_a, 16 * warp_in_group_, 16);
  add(p.request.b, p.request.transpose_b, 0, p.request.columns);
}

void ProductQueue::issue(const ProductRequest& request) {
  if (!fenced_) throw EmulatorFault("wgmma: no wgmma_fence() since the last wait, or none at all");
  Product p{.request = request, .a = {}, .out = accumulators(request), .reads = {}, .group = open_group_};
  if (request.lanes[0].a)
    for (std::size_t lane = 0; lane < kWarpSize; ++lane) std::memcpy(p.a[lane], request.lanes[lane].a, 16);
  collect_reads(p);
  // On behalf of the warp: of all its lanes.
  for (const Piece& piece : p.reads) shared_.begin_async_read({warp_, 0}, piece.address, 16);
  ++p.out->products;
  if (at_once_) compute(p);
  in_flight_.push_back(std::move(p));
}

void ProductQueue::compute(Product& p) const {
  const ProductRequest& q = p.request;
  float a[16][16];
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k) {
      if (!q.lanes[0].a) {
        a[row][k] = element(q.a, q.transpose_a, 16 * warp_in_group_ + row, k);
        continue;
      }
      const std::uint32_t pair = p.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      a[row][k] = to_float({static_cast<std::uint16_t>(k % 2 ? pair >> 16 : pair)});
    }
  std::vector<float> b(static_cast<std::size_t>(q.columns) * 16), d(b.size(), 0.F);
  const auto columns = static_cast<std::size_t>(q.columns);
  for (std::size_t k = 0; k < 16; ++k)
    for (std::size_t j = 0; j < columns; ++j)
      b[k * columns + j] = element(q.b, q.transpose_b, static_cast<int>(j), static_cast<int>(k));
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t k = 0; k < 16; ++k)
      for (std::size_t j = 0; j < columns; ++j) d[i * columns + j] += a[i][k] * b[k * columns + j];
  float* c = p.out->values.data();
  for (std::size_t lane = 0; lane < kWarpSize; ++lane)
    for (std::size_t j = 0; j < columns / 2; ++j, ++c) {
      const std::size_t row = lane / 4 + j % 4 / 2 * 8, column = j / 4 * 8 + lane % 4 * 2 + j % 2;
      *c = (q.accumulate ? *c : 0.F) + d[row * columns + column];
    }
  p.done = true;
}

void ProductQueue::finish(Product& p) {
  if (p.request.lanes[0].a)
    for (std::size_t lane = 0; lane < kWarpSize; ++lane)
      if (std::memcmp(p.a[lane], p.request.lanes[lane].a, 16) != 0)
        throw EmulatorFault("wgmma: registers of A were written before the product was waited for");
  if (!p.done) compute(p);
  for (const Piece& piece : p.reads) shared_.end_async_read({warp_, 0}, piece.address, 16);
  Accumulators& out = *p.out;
  if (--out.products > 0) return;
  const float* value = out.values.data();
  for (float* lane : out.lanes)
    for (int j = 0; j < out.each; ++j, ++value) {
      if (std::bit_cast<std::uint32_t>(lane[j]) != kInFlight)
        throw EmulatorFault("wgmma: accumulators were written before the product was waited for");
      lane[j] = *value;
    }
}

void ProductQueue::commit() { ++open_group_; }

void ProductQueue::wait(int groups_left) {
  fenced_ = false;
  while (!in_flight_.empty() && in_flight_.front().group < open_group_ - groups_left) {
    finish(in_flight_.front());
    in_flight_.pop_front();
  }
}

void ProductQueue::check_rest(const float* c) const {
  for (const Product& p : in_flight_)
    if (std::find(std::begin(p.out->lanes), std::end(p.out->lanes), c) != std::end(p.out->lanes))
      throw EmulatorFault("wgmma: accumulators are used before the product was waited for");
}

}  // namespace xlstm::emulator
