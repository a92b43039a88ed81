#include "train/checkpoint_writer.h"

#include <cstring>

#include "core/log.h"

namespace xlstm {

namespace {

Tensor copy_into(Arena& arena, const NamedTensor& from) {
  const Tensor& t = from.value;
  XL_CHECK(arena.measuring() || (t && t.device == Device::cpu), "'{}' must be in host memory", from.name);
  const Tensor copy = arena.alloc(from.name, t.dtype, t.rows, t.cols);
  if (arena.measuring()) return copy;
  const i64 runs = t.dense() ? 1 : t.rows, bytes = t.bytes() / std::max<i64>(runs, 1);
  for (i64 r = 0; r < runs; ++r)
    std::memcpy(copy.data + r * bytes, t.data + r * t.row_stride * size_of(t.dtype), static_cast<std::size_t>(bytes));
  return copy;
}

CheckpointContent copy_into(Arena& arena, const CheckpointContent& from) {
  CheckpointContent copy{from.step, {}, {}, from.state};
  arena.rewind(0);
  for (const NamedTensor& t : from.params) copy.params.push_back({t.name, copy_into(arena, t), t.is_matrix});
  for (const NamedTensor& t : from.optimizer) copy.optimizer.push_back({t.name, copy_into(arena, t), t.is_matrix});
  return copy;
}

}  // namespace

i64 snapshot_bytes(const CheckpointContent& content) {
  Arena arena = Arena::measuring("snapshot");
  copy_into(arena, content);
  return arena.peak();
}

CheckpointWriter::CheckpointWriter(fs::path dir, Rotation rotation, Arena snapshot)
    : dir_(std::move(dir)), rotation_(rotation), snapshot_(std::move(snapshot)) {
  make_directory(dir_);
  remove_leftovers(dir_);
}

CheckpointWriter::~CheckpointWriter() { wait(); }

void CheckpointWriter::save(const CheckpointContent& content) {
  const Timer blocked;
  wait();
  CheckpointContent copy = copy_into(snapshot_, content);
  SaveReport report{.step = content.step, .seconds_blocked = blocked.seconds()};
  under_way_ = std::async(std::launch::async, [this, report, copy = std::move(copy)]() mutable {
    const Timer writing;
    try {
      report.bytes = save_checkpoint(dir_, copy, rotation_);
    } catch (const std::exception& e) {
      report.error = e.what();
      log_error("checkpoint of step {} was NOT saved: {}; training goes on, the next save tries again", copy.step,
                e.what());
    }
    report.seconds_writing = writing.seconds();
    return report;
  });
}

SaveReport CheckpointWriter::save_now(const CheckpointContent& content) {
  const Timer blocked;
  wait();
  SaveReport report{.step = content.step};
  report.bytes = save_checkpoint(dir_, content, rotation_);
  report.seconds_blocked = report.seconds_writing = blocked.seconds();
  last_error_.clear();
  return report;
}

void CheckpointWriter::wait() {
  if (under_way_.valid()) under_way_.wait();
  collect();
}

void CheckpointWriter::collect() {
  if (!under_way_.valid() || under_way_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
  report_ = under_way_.get();
  last_error_ = report_->error;
}

std::optional<SaveReport> CheckpointWriter::poll() {
  collect();
  return std::exchange(report_, std::nullopt);
}

}  // namespace xlstm
