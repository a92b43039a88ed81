#include "train/checkpoint_writer.h"

#include "core/log.h"
#include "train/shared_checkpoint.h"

namespace xlstm {

namespace {

Tensor place_in(Arena& arena, const std::string& name, const Tensor& like) {
  return arena.alloc(name, like.dtype, like.rows, like.cols);
}

}  // namespace

i64 snapshot_bytes(const CheckpointContent& content) {
  Arena arena = Arena::measuring("snapshot");
  for (const TensorPiece& piece : content.pieces) place_in(arena, "piece", piece.values);
  if (!content.pieces.empty()) return arena.peak();
  for (const auto* list : {&content.params, &content.optimizer})
    for (const NamedTensor& t : *list) place_in(arena, t.name, t.value);
  return arena.peak();
}

CheckpointContent CheckpointWriter::copy(const CheckpointContent& from) {
  CheckpointContent content = from;
  const bool shared = ranks_ && ranks_->size() > 1;  // a rank may have no piece of a small model
  snapshot_.rewind(0);
  const auto copied = [&](const std::string& name, const Tensor& value) {
    XL_CHECK(value, "'{}' has no data", name);
    const Tensor to = place_in(snapshot_, name, value);
    download(ctx_, to.data, value);
    return to;
  };
  for (TensorPiece& piece : content.pieces) piece.values = copied("piece", piece.values);
  for (auto* list : {&content.params, &content.optimizer}) {
    for (NamedTensor& t : *list) {
      if (!shared) {
        t.value = copied(t.name, t.value);
      } else {  // its name and shape alone
        t.value.data = nullptr;
        t.value.row_stride = t.value.cols;
      }
    }
  }
  return content;
}

CheckpointWriter::CheckpointWriter(Context& ctx, fs::path dir, Rotation rotation, Arena snapshot, Communicator* ranks)
    : ctx_(ctx), dir_(std::move(dir)), rotation_(rotation), snapshot_(std::move(snapshot)), ranks_(ranks) {
  if (ranks_ && !ranks_->first()) return;
  make_directory(dir_);
  remove_leftovers(dir_);
}

CheckpointWriter::~CheckpointWriter() { wait(); }

void CheckpointWriter::save(const CheckpointContent& content) {
  const Timer blocked;
  wait();
  CheckpointContent copied = copy(content);
  SaveReport report{.step = content.step, .seconds_blocked = blocked.seconds()};
  under_way_ = std::async(std::launch::async, [this, report, content = std::move(copied)]() mutable {
    const Timer writing;
    try {
      report.bytes = save_checkpoint(dir_, content, rotation_, ranks_);
    } catch (const std::exception& e) {
      report.error = e.what();
      if (!ranks_ || ranks_->first())
        log_error("checkpoint of step {} was NOT saved: {}; training goes on, the next save tries again", content.step,
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
  const bool on_device = !content.params.empty() && content.params[0].value.device != Device::cpu;
  report.bytes = save_checkpoint(dir_, on_device ? copy(content) : content, rotation_, ranks_);
  report.seconds_blocked = report.seconds_writing = blocked.seconds();
  last_error_.clear();
  return report;
}

void CheckpointWriter::save_aside(const fs::path& folder, const CheckpointContent& content) {
  wait();
  const bool on_device = !content.params.empty() && content.params[0].value.device != Device::cpu;
  const CheckpointContent copied = on_device ? copy(content) : content;
  if (ranks_ && ranks_->size() > 1)
    write_checkpoint_together(folder, copied, *ranks_);
  else
    write_checkpoint(folder, copied);
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
