#include "tests/support/fake_nccl.h"

#include <cstring>

namespace xlstm {

void FakeNccl::init(const std::string& id, int rank, int size) {
  XL_CHECK(id == "the id" && size_ == 0, "rank {} was told '{}'", rank, id);
  rank_ = rank;
  size_ = size;
  begin("init");
}

void FakeNccl::begin(const std::string& what) {
  expect_settled();
  begun_ = what;
  const std::lock_guard lock(wire_.mutex);
  ++wire_.came[what];
}

bool FakeNccl::settled() {
  if (begun_.empty()) return true;
  {
    const std::lock_guard lock(wire_.mutex);
    if (wire_.came[begun_] == size_) begun_.clear();
  }
  if (!begun_.empty() && while_unsettled) while_unsettled();
  return begun_.empty();
}

void FakeNccl::group_start() {
  XL_CHECK(!grouped_, "a group within a group");
  expect_settled();
  grouped_ = true;
}

// Sends and receives of a group may be in any order; without one, the first would wait for ever.
void FakeNccl::send(const Tensor& row, int to) {
  XL_CHECK(grouped_ && to != rank_ && row.cols > 0, "send to {}", to);
  put(row, to);
}

void FakeNccl::receive(const Tensor& row, int from) {
  XL_CHECK(grouped_ && from != rank_ && row.cols > 0, "receive from {}", from);
  landings_.push_back({row, from, marks_ + 1});
}

void FakeNccl::group_end() {
  XL_CHECK(grouped_, "no group to end");
  grouped_ = false;
  if (!std::exchange(connected_, true)) begin("first collective");
}

void FakeNccl::all_reduce(const Tensor& row) {
  expect_well();
  expect_settled();
  for (int r = 0; r < size_; ++r) put(row, r);
  landings_.push_back({row, -1, marks_ + 1});
  if (!std::exchange(connected_, true)) begin("first collective");
}

void FakeNccl::put(const Tensor& row, int to) {
  XL_CHECK(ordered_, "sent before it is known to be computed");
  const std::lock_guard lock(wire_.mutex);
  wire_.sent[{rank_, to}].emplace_back(reinterpret_cast<const char*>(row.data), static_cast<std::size_t>(row.bytes()));
  wire_.changed.notify_all();
}

i64 FakeNccl::mark() {
  expect_settled();
  ordered_ = false;
  return ++marks_;
}

void FakeNccl::compute_after(i64 mark) {
  expect_well();
  while (!landings_.empty() && landings_.front().mark <= mark) {
    land(landings_.front());
    landings_.pop_front();
  }
  landed_ = std::max(landed_, mark);
}

std::string FakeNccl::take(int from) {
  std::unique_lock lock(wire_.mutex);
  std::deque<std::string>& line = wire_.sent[{from, rank_}];
  XL_CHECK(wire_.changed.wait_for(lock, std::chrono::seconds(60), [&] { return !line.empty(); }), "nothing from {}",
           from);
  std::string bytes = std::move(line.front());
  line.pop_front();
  return bytes;
}

void FakeNccl::land(const Landing& l) {
  if (l.from >= 0) {
    const std::string bytes = take(l.from);
    XL_CHECK(static_cast<i64>(bytes.size()) == l.row.bytes(), "{} bytes where {} are expected", bytes.size(),
             l.row.bytes());
    std::memcpy(l.row.data, bytes.data(), bytes.size());
    return;
  }
  std::vector<float> sum(static_cast<std::size_t>(l.row.cols), 0.0f), one(sum.size());
  for (int r = 0; r < size_; ++r) {
    const std::string bytes = take(r);
    std::memcpy(one.data(), bytes.data(), bytes.size());
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  }
  std::memcpy(l.row.data, sum.data(), sum.size() * sizeof(float));
}

}  // namespace xlstm
