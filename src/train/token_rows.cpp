#include "train/token_rows.h"

namespace xlstm {

namespace {

void upload_rows(Context& ctx, Tensor to, const std::vector<std::int32_t>& from, std::int32_t rest) {
  const auto rows = static_cast<std::size_t>(to.rows);
  if (from.size() == rows) return upload(ctx, to, from.data());
  std::vector<std::int32_t> filled = from;
  filled.resize(rows, rest);
  upload(ctx, to, filled.data());
}

}  // namespace

void upload_batch(Context& ctx, const TokenRows& to, const TokenBatch& batch) {
  XL_CHECK(batch.length == to.seq.length && batch.sequences <= to.seq.sequences,
           "a batch of ({}, {}) for memory of ({}, {})", batch.sequences, batch.length, to.seq.sequences,
           to.seq.length);
  upload_rows(ctx, to.ids, batch.ids, 0);
  upload_rows(ctx, to.targets, batch.targets, -1);
  upload_rows(ctx, to.seq.starts, batch.starts, 1);
}

}  // namespace xlstm
