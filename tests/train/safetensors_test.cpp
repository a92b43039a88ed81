#include "train/safetensors.h"

#include <gmock/gmock.h>

#include "core/json.h"
#include "tests/support/mutate.h"
#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

using ::testing::HasSubstr;

struct SafetensorsTest : TemporaryFolder {
  fs::path file = dir / "a.safetensors";

  void write_raw(const std::string& header, const std::string& values) {
    const std::uint64_t length = header.size();
    OutputFile out(file);
    out.write(&length, sizeof length);
    out.write(header);
    out.write(values);
    out.close();
  }
  void write_bytes(const std::string& bytes) {
    OutputFile out(file);
    out.write(bytes);
    out.close();
  }
  std::string error() {
    try {
      SafetensorsFile opened(file);
      return "";
    } catch (const UserError& e) {
      return e.what();
    }
  }
};

TEST_F(SafetensorsTest, RoundTripIsExactForEveryType) {
  Tensors written;
  written.add("odd", DType::bf16, 3, 5);
  written.add("vector", DType::f32, 1, 7);
  written.add("wide", DType::f64, 2, 3);
  written.add("whole \"numbers\"\n", DType::i32, 4, 1);
  written.add("empty", DType::f32, 0, 4);
  written.fill(1);
  write_safetensors(file, written.list, {{"who", "me"}});

  const SafetensorsFile opened(file);
  EXPECT_EQ(opened.metadata().at("who"), "me");
  EXPECT_EQ(opened.find("vector")->shape, (std::vector<i64>{7}));
  EXPECT_EQ(opened.find("whole \"numbers\"\n")->shape, (std::vector<i64>{4, 1}));
  EXPECT_EQ(opened.find("none"), nullptr);
  for (const SafetensorsEntry& e : opened.tensors()) EXPECT_EQ(e.offset % size_of(e.dtype), 0) << e.name;

  Tensors read;
  for (const NamedTensor& t : written.list) read.add(t.name, t.value.dtype, t.value.rows, t.value.cols);
  for (const NamedTensor& t : read.list) opened.read_into(t.value, t.name);
  EXPECT_EQ(read.bits(), written.bits());
}

TEST_F(SafetensorsTest, ColumnsOfAWiderMatrixAreWrittenAndReadInPlace) {
  Tensors all;
  const Tensor wide = all.add("wide", DType::f32, 4, 6);
  all.fill(2);
  const NamedTensor middle{"middle", wide.slice_cols(2, 5)};
  const WrittenTensors written = write_safetensors(file, {&middle, 1});
  Tensors copy;
  const Tensor target = copy.add("wide", DType::f32, 4, 6);
  std::memcpy(target.data, wide.data, static_cast<std::size_t>(wide.bytes()));
  for (i64 r = 0; r < 4; ++r)
    for (i64 c = 2; c < 5; ++c) target.row<float>(r)[c] = 0;
  EXPECT_EQ(SafetensorsFile(file).read_into(target.slice_cols(2, 5), "middle"), written.xxh3[0]);
  EXPECT_EQ(copy.bits(), all.bits());
}

TEST_F(SafetensorsTest, AMatrixOfOneRowIsNoVector) {
  Tensors t;
  const Tensor value = t.add("gate", DType::f32, 1, 3);
  t.fill(3);
  for (const bool is_matrix : {false, true}) {
    t.list[0].is_matrix = is_matrix;
    write_safetensors(file, t.list);
    const SafetensorsFile opened(file);
    EXPECT_EQ(opened.find("gate")->shape, (is_matrix ? std::vector<i64>{1, 3} : std::vector<i64>{3}));
    EXPECT_NO_THROW(opened.read_into(value, "gate"));
  }
}

TEST_F(SafetensorsTest, ReadingChecksNameTypeAndShape) {
  Tensors t;
  t.add("w", DType::f32, 2, 3);
  write_safetensors(file, t.list);
  const SafetensorsFile opened(file);
  Tensors other;
  EXPECT_THROW(opened.read_into(other.add("x", DType::f32, 2, 3), "x"), UserError);
  EXPECT_THROW(opened.read_into(other.add("w", DType::i32, 2, 3), "w"), UserError);
  EXPECT_THROW(opened.read_into(other.add("w", DType::f32, 3, 2), "w"), UserError);
}

TEST_F(SafetensorsTest, EveryFieldOfTheHeaderIsChecked) {
  const auto refuses = [&](const std::string& header, i64 values, const std::string& expected) {
    write_raw(header, std::string(static_cast<std::size_t>(values), 'v'));
    EXPECT_THAT(error(), HasSubstr(expected)) << header;
    EXPECT_THAT(error(), HasSubstr(file.string()));
    EXPECT_EQ(error().find('\n'), std::string::npos);
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  write_raw(good, "12345678");
  EXPECT_EQ(error(), "");
  write_raw(good + "   ", "12345678");  // padding
  EXPECT_EQ(error(), "");
  refuses(" " + good, 8, "no '{' at byte 8");
  refuses("[]", 0, "no '{' at byte 8");
  refuses("{\"a\":", 0, "no valid JSON at byte");
  refuses("{\"a\":" + std::string(100'000, '['), 0, "too deep");
  refuses(good, 7, "tensor \"a\": expected 8 bytes from byte 62, found 7");
  refuses(good, 9, "expected the end of the file at byte 70");
  refuses(R"({"a\nb":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8, "tensor \"a\\nb\": expected a dtype");
  refuses(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "expected 12 bytes for f32 [3], found 8");
  refuses(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "a shape of sizes");
  refuses(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "a shape of sizes");
  refuses(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, "a shape of sizes");
  refuses(R"({"a":{"dtype":"F32","shape":[4611686018427387905,2],"data_offsets":[0,8]}})", 8, "too many bytes");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "two offsets in order");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "two offsets in order");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[9223372036854775799,9223372036854775807]}})", 8,
          "at byte");
  refuses(R"({"a":{"dtype":"F32","shape":[2]}})", 8, "the fields dtype, shape and data_offsets");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", 8, "the fields dtype");
  refuses(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "expected its values at byte");
  refuses(R"({"__metadata__":{"a":1}})", 0, "texts by name");
  refuses(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",
      8, "tensor \"b\": expected its values at byte");  // overlap
  refuses(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      8, "the key \"a\" twice");
}

TEST_F(SafetensorsTest, TruncationAtEveryLengthIsAUserError) {
  Tensors t;
  t.add("w", DType::f32, 2, 3);
  t.add("b", DType::f32, 1, 3);
  write_safetensors(file, t.list);
  const std::string whole = read_file(file);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write_bytes(whole.substr(0, length));
    EXPECT_NE(error(), "") << length;
  }
}

// A flipped or replaced byte gives an error or a file that can be read to its end; never a crash, never more memory.
TEST_F(SafetensorsTest, MutatedHeadersNeverCrash) {
  Tensors t;
  t.add("w", DType::f32, 2, 3);
  t.add("b", DType::bf16, 1, 3);
  write_safetensors(file, t.list, {{"format", "pt"}});
  const std::string whole = read_file(file);
  int refused = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    const std::string bytes = mutated(whole, kJsonWords, round);
    write_bytes(bytes);
    try {
      const SafetensorsFile opened(file);
      for (const SafetensorsEntry& e : opened.tensors()) opened.for_each_piece(e, [](auto) {});
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1500);
}

}  // namespace
}  // namespace xlstm
