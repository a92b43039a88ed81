// Token files of other trainers become the same documents, however they mark their ends, and are refused by offset.
#include "data/dataset_import.h"

#include <gmock/gmock.h>

#include "data/dataset.h"
#include "tests/data/support.h"
#include "tests/data/token_files.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Documents = std::vector<std::vector<int>>;

constexpr int kEod = 9;

struct ImportTest : testing::Test {
  std::string file(const std::string& name, const std::string& bytes) {
    write_text(dir / name, bytes);
    return (dir / name).string();
  }
  // Of a vocabulary of ten ids, named by a file that is no SentencePiece model.
  DatasetImport import_of(std::vector<std::string> inputs) {
    static int number = 0;
    return {.inputs = std::move(inputs),
            .out = dir / fmt::format("out{}", number++),
            .tokenizer = file("tokenizer.json", "{}"),
            .vocab_size = 10,
            .eod_id = kEod,
            .validation_fraction = 0};
  }
  Documents documents(const DatasetImport& request) {
    import_dataset(request);
    verify_dataset(request.out / "train");
    const Dataset data = Dataset::open(request.out);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(data.total_tokens()));
    data.read(0, data.total_tokens(), ids.data());
    Documents out(1);
    for (const int id : ids)
      if (id == data.eod_id())
        out.emplace_back();
      else
        out.back().push_back(id);
    EXPECT_TRUE(out.back().empty());
    out.pop_back();
    return out;
  }
  std::string refused(const DatasetImport& request) {
    const std::string error = user_error_of([&] { import_dataset(request); });
    EXPECT_FALSE(fs::exists(request.out) || fs::exists(request.out.string() + ".partial")) << error;
    return error;
  }
  TempDir dir;
  const Documents expected{{1, 2, 3}, {4}, {5, 6, 7, 8}};
  const std::vector<int> before{kEod, 1, 2, 3, kEod, 4, kEod, 5, 6, 7, 8},
      after{1, 2, 3, kEod, 4, kEod, 5, 6, 7, 8, kEod};
};

TEST_F(ImportTest, EveryTypeOfArrayAndBothPlacesOfTheEnd) {
  for (const auto& ids : {before, after}) {
    const std::string shape = fmt::format("({},)", ids.size());
    for (const auto& [descr, bytes] : {std::pair{"|u1", ids_as<std::uint8_t>(ids)},
                                       {"<u2", ids_as<std::uint16_t>(ids)},
                                       {"<i2", ids_as<std::int16_t>(ids)},
                                       {"<u4", ids_as<std::uint32_t>(ids)},
                                       {"<i4", ids_as<std::int32_t>(ids)},
                                       {"<i8", ids_as<std::int64_t>(ids)}})
      EXPECT_EQ(documents(import_of({file("a.npy", npy_file(descr, shape, bytes))})), expected) << descr;
    DatasetImport raw = import_of({file("a.bin", ids_as<std::uint16_t>(ids))});
    raw.as = TokenFormat::raw_uint16;
    EXPECT_EQ(documents(raw), expected);
  }
}

TEST_F(ImportTest, LlmcFilesNameTheirVocabularyAndGoOnFromFileToFile) {
  constexpr int kGpt2 = 50256;
  const std::string one = file("a.bin", llmc_file<std::uint16_t>(20240520, 1, {kGpt2, 1, 2, 3, kGpt2, 40'000}));
  const std::string two = file("b.bin", llmc_file<std::uint16_t>(20240520, 1, {4, 5, kGpt2, kGpt2, 6}));
  DatasetImport request{.inputs = {one, two}, .out = dir / "gpt2", .validation_fraction = 0};
  EXPECT_EQ(documents(request), (Documents{{1, 2, 3}, {40'000, 4, 5}, {6}}));
  EXPECT_EQ(Dataset::open(request.out).vocab_size(), 50257);
  const std::string wide = file("c.bin", llmc_file<std::uint32_t>(20240801, 7, {128000, 100'000, 7}));
  request = {.inputs = {wide}, .out = dir / "llama3", .validation_fraction = 0};
  EXPECT_EQ(documents(request), (Documents{{100'000, 7}}));
  EXPECT_EQ(import_dataset({.inputs = {two}, .out = dir / "e", .validation_fraction = 0}).empty_documents, 1);
}

TEST_F(ImportTest, MegatronDocumentsEndWhereTheIndexSaysAndAtTheId) {
  const std::string bin = file("m.bin", ids_as<std::int32_t>({1, 2, 3, 4, kEod, 5, 6, 7, 8}));
  file("m.idx", megatron_index(4, 4, {2, 1, 2, 4}, {0, 2, 3, 4}));
  EXPECT_EQ(documents(import_of({bin})), expected);
  const std::string narrow = file("n.bin", ids_as<std::uint16_t>({1, 2, 3, 4, 5, 6, 7, 8}));
  file("n.idx", megatron_index(8, 2, {3, 1, 4}, {0, 1, 2, 3}));
  EXPECT_EQ(documents(import_of({narrow})), expected);
}

TEST_F(ImportTest, ASentencePieceTokenizerTellsAll) {
  const Tokenizer& t = sample_tokenizer();
  std::vector<int> ids = t.encode("some words\n");
  ids.push_back(t.eod_id());
  DatasetImport request = import_of({file("t.bin", ids_as<std::uint32_t>(ids))});
  request.as = TokenFormat::raw_uint32;
  request.tokenizer = sample_tokenizer_path();
  EXPECT_THAT(refused(request), AllOf(HasSubstr("--vocab-size 10"), HasSubstr("the tokenizer says")));
  request.vocab_size = request.eod_id = std::nullopt;
  const DatasetImportResult r = import_dataset(request);
  EXPECT_EQ(r.train.text_bytes, 11);
  EXPECT_EQ(r.train.tokenizer_sha256, t.sha256());
}

TEST_F(ImportTest, AShareOfTheDocumentsIsForValidation) {
  std::vector<int> ids;
  for (int d = 0; d < 400; ++d) ids.insert(ids.end(), {d % 9, kEod});
  DatasetImport request = import_of({file("a.npy", npy_file("<u2", "(800,)", ids_as<std::uint16_t>(ids)))});
  request.validation_fraction = 0.25;
  const DatasetImportResult r = import_dataset(request);
  EXPECT_EQ(r.train.documents() + r.validation->documents(), 400);
  EXPECT_NEAR(static_cast<double>(r.validation->documents()), 100, 30);
}

TEST_F(ImportTest, DamagedFilesAreNamedWithTheOffset) {
  const std::string good = llmc_file<std::uint16_t>(20240520, 1, {50256, 1, 2});
  const auto llmc = [&](const std::string& bytes) {
    return refused({.inputs = {file("x.bin", bytes)}, .as = TokenFormat::llmc, .out = dir / "out"});
  };
  EXPECT_THAT(llmc(good.substr(0, good.size() - 1)), AllOf(HasSubstr("x.bin"), HasSubstr("3 tokens of 2 bytes")));
  EXPECT_THAT(llmc(good.substr(0, 100)), HasSubstr("header of 1024 bytes"));
  EXPECT_THAT(llmc(llmc_file<std::uint16_t>(20240520, 3, {1})), HasSubstr("expected version 1 at byte 4, found 3"));
  EXPECT_THAT(llmc(llmc_file<std::uint16_t>(20240520, 1, {1, 2, 60'000})), HasSubstr("token 2: id 60000 is outside"));
  EXPECT_THAT(llmc(llmc_file<std::uint16_t>(1, 1, {1})), HasSubstr("found 1"));

  const auto npy = [&](const std::string& bytes) { return refused(import_of({file("x.npy", bytes)})); };
  EXPECT_THAT(npy(npy_file("<f4", "(2,)", "12345678")), HasSubstr("found '<f4'"));
  EXPECT_THAT(npy(npy_file(">u2", "(2,)", "1234")), HasSubstr("little-endian"));
  EXPECT_THAT(npy(npy_file("<u2", "(1, 2)", "1234")), HasSubstr("one dimension"));
  EXPECT_THAT(npy(npy_file("<u2", "(3,)", "1234")), HasSubstr("found 4 bytes"));
  EXPECT_THAT(npy(npy_file("<i4", "(1,)", ids_as<std::int32_t>({-1}))), HasSubstr("token 0: id -1"));
  EXPECT_THAT(npy(std::string("\x93NUMPY\x01\0\xff\xff short", 16)), HasSubstr("header of 65535 bytes"));

  const std::string bin = file("m.bin", ids_as<std::int32_t>({1, 2, 3}));
  const auto megatron = [&](const std::string& index) {
    file("m.idx", index);
    return refused(import_of({bin}));
  };
  EXPECT_THAT(megatron("MMIDIDX"), HasSubstr("m.idx"));
  EXPECT_THAT(megatron(megatron_index(6, 4, {3}, {0, 1})), HasSubstr("found type 6"));
  EXPECT_THAT(megatron(megatron_index(4, 2, {1, 2}, {0, 2})), HasSubstr("expected sequence 1 at byte 4"));
  EXPECT_THAT(megatron(megatron_index(4, 4, {1, 2}, {0, 3})), HasSubstr("document bound 1 is 3"));
  EXPECT_THAT(megatron(megatron_index(4, 4, {1, 2}, {0, 1})), HasSubstr("last document bound is 1"));
  EXPECT_THAT(megatron(megatron_index(4, 4, {1, 1}, {0, 2})), HasSubstr("m.bin: expected 2 tokens"));
}

TEST_F(ImportTest, WhatIsNotKnownMustBeSaid) {
  const std::string npy = file("a.npy", npy_file("<u2", "(2,)", ids_as<std::uint16_t>({1, 2})));
  DatasetImport request = import_of({npy});
  request.vocab_size.reset();
  EXPECT_THAT(refused(request), HasSubstr("--vocab-size: is needed"));
  request = import_of({npy});
  request.tokenizer.clear();
  EXPECT_THAT(refused(request), HasSubstr("--tokenizer: name"));
  request = import_of({npy});
  request.eod_id = 10;
  EXPECT_THAT(refused(request), HasSubstr("--eod-id 10"));
  request = import_of({file("a.bin", "1234")});
  EXPECT_THAT(refused(request), HasSubstr("raw-u16"));
  request = import_of({npy, file("b.bin", llmc_file<std::uint16_t>(20240520, 1, {1}))});
  EXPECT_THAT(refused(request), HasSubstr("import them apart"));
  request = import_of({file("empty.npy", npy_file("<u2", "(1,)", ids_as<std::uint16_t>({kEod})))});
  EXPECT_THAT(refused(request), HasSubstr("holds no documents"));
  request = import_of({npy});
  fs::create_directories(request.out / "mine");
  EXPECT_THAT(user_error_of([&] { import_dataset(request); }), HasSubstr("is there already"));
}

}  // namespace
}  // namespace xlstm
