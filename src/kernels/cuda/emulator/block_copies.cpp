// Asynchronous copies of a CTA: cp.async of single threads, bulk copies and bulk stores.
#include <fmt/core.h>

#include <cstring>

#include "kernels/cuda/emulator/block.h"
#include "kernels/cuda/emulator/global_memory.h"

namespace xlstm::emulator {

void Block::copy_async(std::uint32_t to, const void* from, std::uint32_t valid) {
  Copy copy{to, {}};
  std::memcpy(copy.bytes.data(), from, valid);
  shared_.begin_copy(self(), to, 16);
  self_thread().open.push_back(copy);
  if (cluster_.config().arrival == Arrival::immediate) shared_.land_copy(self(), to, copy.bytes.data(), 16);
}

void Block::commit_copies() {
  Thread& t = self_thread();
  t.groups.push_back(std::move(t.open));
  t.open.clear();
}

void Block::wait_copies(int groups_left) {
  Thread& t = self_thread();
  while (static_cast<int>(t.groups.size()) > groups_left) {
    if (cluster_.config().arrival == Arrival::late)
      for (const Copy& copy : t.groups.front()) shared_.land_copy(self(), copy.to, copy.bytes.data(), 16);
    t.groups.erase(t.groups.begin());
  }
}

void Block::start_transfer(const Transfer& transfer, std::uint32_t cluster_mask) {
  Transfer one = transfer;
  one.issued = cluster_.clocks().of_lane_before(self());
  if (one.map && one.to % 1024 != 0) throw EmulatorFault(fmt::format("a box at {}: not aligned to 1024", one.to));
  for (int rank = 0; rank < cluster_.size(); ++rank) {
    if ((cluster_mask >> rank & 1) == 0) continue;
    Block& to = cluster_.block(rank);
    to.barrier_at(one.barrier);
    one.time = cluster_.clocks().next_engine_time();
    to.shared_.begin_bulk(self(), one.to, one.bytes, one.time);
    cluster_.transfer(rank, one);
  }
}

void Block::land(const Transfer& t) {
  if (t.map)
    for (int row = 0; row < t.map->box_rows; ++row) {
      bf16 line[64];
      read_box_row(*t.map, t.at, row, line);
      for (std::uint32_t piece = 0; piece < 8; ++piece)
        shared_.land_bulk(swizzled(t.to + static_cast<std::uint32_t>(row) * kBoxRowBytes + piece * 16),
                          line + piece * 8, 16);
    }
  else
    shared_.land_bulk(t.to, t.from, t.bytes);
  Clocks::Clock known = t.issued;
  known.back() = t.time;
  barrier_at(t.barrier).land(t.bytes, known);
  ++cluster_.progress();
}

void Block::write_out(Store& store) {
  for (int row = 0; row < store.map.box_rows; ++row) {
    bf16 line[64];
    for (std::uint32_t piece = 0; piece < 8; ++piece)
      std::memcpy(
          line + piece * 8,
          shared_.async_view(swizzled(store.from + static_cast<std::uint32_t>(row) * kBoxRowBytes + piece * 16)), 16);
    write_box_row(store.map, store.at, row, line);
  }
  store.done = true;
}

void Block::store_box(const TensorMap& map, BoxPlace at, std::uint32_t from) {
  if (from % 1024 != 0) throw EmulatorFault(fmt::format("a box at {}: not aligned to 1024", from));
  shared_.begin_async_read(self(), from, map.box_bytes());
  Store store{map, at, from, false};
  if (cluster_.config().arrival == Arrival::immediate) write_out(store);
  self_thread().open_stores.push_back(store);
}

void Block::commit_stores() {
  Thread& t = self_thread();
  t.stores.push_back(std::move(t.open_stores));
  t.open_stores.clear();
}

void Block::wait_stores(int groups_left) {
  Thread& t = self_thread();
  while (static_cast<int>(t.stores.size()) > groups_left) {
    for (Store& store : t.stores.front()) {
      if (!store.done) write_out(store);
      shared_.end_async_read(self(), store.from, store.map.box_bytes());
    }
    t.stores.erase(t.stores.begin());
  }
}

}  // namespace xlstm::emulator
