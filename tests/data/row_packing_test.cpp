// Documents packed whole into rows: every token once, no row too long, the same rows always, damage found.
#include "data/row_packing.h"

#include <gmock/gmock.h>

#include <fstream>
#include <numeric>

#include "core/random.h"
#include "data/dataset_writer.h"
#include "data/loader.h"
#include "dataset_case.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint64_t kRow = 64;

// Lengths as those of documents: many short ones, some longer than a row.
std::vector<std::uint64_t> some_starts(int documents, std::uint64_t seed, std::uint64_t& tokens) {
  const RandomStream random(seed, RandomUse::test);
  std::vector<std::uint64_t> starts;
  tokens = 0;
  for (int d = 0; d < documents; ++d) {
    starts.push_back(tokens);
    tokens += 1 + static_cast<std::uint64_t>(20 * std::exp(random.normal(static_cast<std::uint64_t>(d))));
  }
  return starts;
}

TEST(PackRows, EveryTokenOnceAndNoRowTooLong) {
  for (const int documents : {1, 2, 7, 500}) {
    std::uint64_t tokens = 0;
    const auto starts = some_starts(documents, 3, tokens);
    const PackedRows packed = pack_rows(starts, tokens, kRow);
    EXPECT_EQ(fault_of(packed, starts, tokens, kRow), "");
    std::vector<int> seen(tokens, 0);
    for (std::size_t r = 0; r < packed.rows(); ++r) {
      std::uint64_t length = 0;
      for (std::uint64_t p = packed.first_piece[r]; p < packed.first_piece[r + 1]; ++p) {
        const RowPiece& piece = packed.pieces[p];
        length += piece.length;
        for (std::uint64_t t = 0; t < piece.length; ++t) {
          ++seen.at(piece.begin + t);
          const bool inside = t > 0 && std::binary_search(starts.begin(), starts.end(), piece.begin + t);
          ASSERT_FALSE(inside) << "a document begins within a piece";
        }
      }
      ASSERT_GE(length, 1u);
      ASSERT_LE(length, kRow);
    }
    EXPECT_THAT(seen, testing::Each(1));
  }
}

// Documents that fit are whole; of the others, all parts but the last fill a row.
TEST(PackRows, CutsOnlyWhatIsLongerThanARow) {
  const PackedRows packed = pack_rows({0, 150, 160, 170}, 200, kRow);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces;
  for (const RowPiece& p : packed.pieces) pieces.emplace_back(p.begin, p.length);
  EXPECT_THAT(pieces, testing::UnorderedElementsAre(std::pair{0, 64}, std::pair{64, 64}, std::pair{128, 22},
                                                    std::pair{150, 10}, std::pair{160, 10}, std::pair{170, 30}));
  EXPECT_EQ(packed.rows(), 4u);  // 64, 64, 30 + 22 + 10, 10
  EXPECT_EQ(packed.first_piece, (std::vector<std::uint64_t>{0, 1, 2, 5, 6}));
}

// Best fit, longest first, is within 11/9 of the best possible (Johnson 1973); here it is far closer to full.
TEST(PackRows, WastesLittle) {
  std::uint64_t tokens = 0;
  const auto starts = some_starts(5000, 9, tokens);
  const PackedRows packed = pack_rows(starts, tokens, kRow);
  const std::uint64_t least = (tokens + kRow - 1) / kRow;
  EXPECT_LE(packed.rows(), least + least / 100);
}

TEST(PackRows, FaultsAreNamed) {
  const std::vector<std::uint64_t> starts{0, 30, 50, 70};
  const PackedRows good = pack_rows(starts, 100, kRow);
  ASSERT_EQ(fault_of(good, starts, 100, kRow), "");
  const auto fault = [&](auto&& change) {
    PackedRows rows = good;
    change(rows);
    return fault_of(rows, starts, 100, kRow);
  };
  EXPECT_THAT(fault([](PackedRows& r) { r.first_piece[1] = 9; }), HasSubstr("one after the other"));
  EXPECT_THAT(fault([](PackedRows& r) { r.first_piece = {0, 4}; }), HasSubstr("row 0 has more than 64 tokens"));
  EXPECT_THAT(fault([](PackedRows& r) { ++r.pieces[1].begin; }), HasSubstr("in no row"));
  EXPECT_THAT(fault([](PackedRows& r) { --r.pieces[1].length; }), HasSubstr("in no row"));
  EXPECT_THAT(fault([](PackedRows& r) { r.pieces[1] = r.pieces[0]; }), HasSubstr("in no row"));
  EXPECT_THAT(fault([](PackedRows& r) {
                r.pieces.push_back({99, 1});
                r.first_piece.push_back(r.pieces.size());
              }),
              HasSubstr("in two rows"));
}

class PackedDataTest : public DatasetTest {
 protected:
  static constexpr i64 kLength = 48;
  DatasetBuild packed_build(const std::string& out) {
    DatasetBuild build = build_of({json_file(60)}, out);
    build.row_tokens = kLength;
    build.shard_tokens = 700;
    return build;
  }
};

TEST_F(PackedDataTest, TheSameForAnyThreadsAndAfterAnInterruption) {
  DatasetBuild one = packed_build("one"), many = packed_build("many");
  one.threads = 1;
  one.commit_bytes = 1;  // a commit after every batch
  many.threads = 7;
  const DatasetBuildResult built = build_dataset(one);
  build_dataset(many);
  EXPECT_EQ(content_of(one.out), content_of(many.out));
  EXPECT_GT(built.train.shards.size(), 2u);
  verify_dataset(one.out / "train");
  EXPECT_TRUE(build_dataset(one).already_built);
  EXPECT_EQ(Dataset::open(one.out).fingerprint(), built.train.fingerprint());
  EXPECT_GT(built.train.padding(), 0);
  EXPECT_LT(built.train.padding(), 0.25);
  one.row_tokens = kLength + 1;
  EXPECT_THAT(user_error_of([&] { build_dataset(one); }), HasSubstr("another --packing or --context"));

  // The tokens are those of a data set that is not packed.
  DatasetBuild plain = packed_build("plain");
  plain.row_tokens = 0;
  build_dataset(plain);
  for (const auto& [file, bytes] : content_of(plain.out))
    if (!file.ends_with("manifest.json")) {
      EXPECT_EQ(read_file(one.out / file), bytes) << file;
    }
}

// In one epoch, every token of the data set is predicted once, after the token that stands before it.
TEST_F(PackedDataTest, AnEpochPredictsEveryTokenOnce) {
  build_dataset(packed_build("data"));
  const Dataset data = Dataset::open(dir_ / "data");
  std::vector<std::int32_t> stream(static_cast<std::size_t>(data.total_tokens()) + 1, static_cast<int>(data.eod_id()));
  data.read(0, data.total_tokens(), &stream[1]);
  std::vector<std::pair<std::int32_t, std::int32_t>> expected, found;
  for (std::size_t t = 1; t < stream.size(); ++t) expected.emplace_back(stream[t - 1], stream[t]);

  const i64 rows = data.manifest().rows();
  Loader loader({.sets = {Sequences(data, kLength, Packing::first_fit)}}, {.batch_size = rows, .seed = 4});
  TokenBatch batch;
  ASSERT_TRUE(loader.next(batch));
  for (std::size_t t = 0; t < batch.ids.size(); ++t) {
    if (batch.targets[t] < 0) {  // padding: at the end of the row, and nothing comes after it
      EXPECT_EQ(batch.ids[t], data.eod_id());
      EXPECT_EQ(batch.starts[t], 1);
      if ((t + 1) % kLength != 0) {
        EXPECT_EQ(batch.targets[t + 1], -1);
      }
      continue;
    }
    found.emplace_back(batch.ids[t], batch.targets[t]);
    if (t % kLength == 0 || batch.ids[t] == data.eod_id()) {
      EXPECT_EQ(batch.starts[t], 1);
    }
  }
  std::sort(expected.begin(), expected.end());
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, expected);
}

// A later part of a document that was cut begins anew, after the token before it.
TEST_F(PackedDataTest, PiecesDropTheState) {
  DatasetWriter writer(dir_ / "data", sample_tokenizer().identity(), 500, /*row_tokens=*/8);
  writer.add(std::vector<int>{10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, 10, 10);  // and the end: 8 + 3
  writer.add(std::vector<int>{20, 21}, 2, 2);
  writer.finish();
  const Dataset data = Dataset::open(dir_ / "data");
  const Sequences rows(data, 8, Packing::first_fit);
  ASSERT_EQ(rows.count(), 2);
  using Row = std::vector<std::int32_t>;
  const auto eod = static_cast<std::int32_t>(data.eod_id());
  Row ids(8), targets(8), starts(8);
  rows.read(0, {ids.data(), targets.data(), starts.data()});
  EXPECT_EQ(ids, (Row{eod, 10, 11, 12, 13, 14, 15, 16}));
  EXPECT_EQ(targets, (Row{10, 11, 12, 13, 14, 15, 16, 17}));
  EXPECT_EQ(starts, (Row{1, 0, 0, 0, 0, 0, 0, 0}));
  rows.read(1, {ids.data(), targets.data(), starts.data()});
  EXPECT_EQ(ids, (Row{17, 18, 19, eod, 20, 21, eod, eod}));
  EXPECT_EQ(targets, (Row{18, 19, eod, 20, 21, eod, -1, -1}));
  EXPECT_EQ(starts, (Row{1, 0, 0, 1, 0, 0, 1, 1}));
}

TEST_F(PackedDataTest, WhatDoesNotFitIsRefused) {
  build_dataset(packed_build("data"));
  const Dataset data = Dataset::open(dir_ / "data");
  EXPECT_THAT(user_error_of([&] { Sequences(data, 47, Packing::first_fit); }),
              AllOf(HasSubstr("is packed into rows of 48 tokens"), HasSubstr("--context 47")));
  EXPECT_EQ(Sequences(data, 47).count(), Windows({data.total_tokens(), 47}).count());
  DatasetBuild plain = packed_build("plain");
  plain.row_tokens = 0;
  build_dataset(plain);
  const Dataset stream = Dataset::open(plain.out);
  EXPECT_THAT(user_error_of([&] { Sequences(stream, 48, Packing::first_fit); }), HasSubstr("is not packed"));
  DatasetBuild wrong = packed_build("wrong");
  wrong.row_tokens = -1;
  EXPECT_THAT(user_error_of([&] { build_dataset(wrong); }), HasSubstr("--context -1"));

  // A row that points beyond its shard, found when it is read.
  const fs::path file = dir_ / "data/train/shard_00000.rows";
  std::string bytes = read_file(file);
  bytes[bytes.size() - 2] = '\x7f';
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  const Dataset damaged = Dataset::open(dir_ / "data");
  const i64 last = damaged.manifest().shards[0].rows - 1;
  EXPECT_THAT(user_error_of([&] { damaged.row(last); }),
              AllOf(HasSubstr("shard_00000.rows: row "), HasSubstr("does not fit the shard")));
  damaged.row(0);
}

// Whatever byte of a file of rows is wrong: the checksum tells, and reading a row stays within shard and row.
TEST_F(PackedDataTest, EveryDamagedByteOfRowsIsFound) {
  build_dataset(packed_build("data"));
  const Dataset data = Dataset::open(dir_ / "data");
  data.verify_rows();
  ASSERT_GT(data.manifest().shards.size(), 1u);
  const fs::path file = dir_ / "data/train/shard_00001.rows";
  const std::string whole = read_file(file);
  const i64 first = data.manifest().shards[0].rows, rows = first + data.manifest().shards[1].rows;
  i64 silent = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] ^= 1;
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;  // the file that is open
    EXPECT_THAT(user_error_of([&] { data.verify_rows(); }), HasSubstr("shard_00001.rows: damaged: expected xxh3"));
    bool refused = false;
    for (i64 r = first; r < rows; ++r) try {
        std::uint64_t length = 0;
        for (const RowPiece& piece : data.row(r)) {
          ASSERT_LE(piece.begin + piece.length, static_cast<std::uint64_t>(data.total_tokens()));
          length += piece.length;
        }
        ASSERT_LE(length, static_cast<std::uint64_t>(kLength));
      } catch (const UserError&) {
        refused = true;
      }
    silent += !refused;
  }
  EXPECT_GT(silent, 0);  // damage that only the checksum tells
  std::ofstream(file, std::ios::binary | std::ios::trunc) << whole;
  data.verify_rows();
}

}  // namespace
}  // namespace xlstm
