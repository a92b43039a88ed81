// Text, tokenizers and data sets that are missing, damaged or do not belong together.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class BadData : public CliTest {
 protected:
  BadData() { make_data(); }
  Arguments build(const std::string& input, const std::string& out, const Arguments& more = {}) const {
    Arguments arguments{"data", "build", input, "--tokenizer", "tok.model", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  fs::path tokens() const { return path("data/train/shard_00000.tokens"); }
};

TEST_F(BadData, Text) {
  write("empty.txt", "");
  fs::create_directory(path("folder"));
  for (const char* text : {"nothere.txt", "empty.txt", "folder"}) {
    SCOPED_TRACE(text);
    expect_refused(build(text, "out"), {text});
    expect_refused({"tokenizer", "train", text, "--vocab-size", "340", "--out", "out.model"}, {text});
  }
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_FALSE(fs::exists(path("out.model")));
}

TEST_F(BadData, PackedRows) {
  expect_refused(build("text.jsonl", "out", {"--packing", "first_fit"}), {"--packing first_fit", "needs a context"});
  expect_refused(build("text.jsonl", "out", {"--context", "16"}), {"--packing concat", "--context 16"});
  expect_refused(build("text.jsonl", "out", {"--packing", "best"}), {"--packing"});
  expect_refused(build("text.jsonl", "out", {"--packing", "first_fit", "--context", "0"}), {"--context"});
  EXPECT_FALSE(fs::exists(path("out")));

  const Ended built = must_run(build("text.jsonl", "out", {"--packing", "first_fit", "--context", "16"}));
  EXPECT_THAT(built.out, HasSubstr(" rows of 16 tokens, "));
  const Json info = must_run({"data", "info", "out", "--json"}).json().at("train").at("packed");
  EXPECT_EQ(info.at("row_tokens"), 16);
  EXPECT_GT(info.at("rows").get<i64>(), 10);
  EXPECT_LT(info.at("padding").get<double>(), 0.5);
  must_run({"data", "verify", "out"});
  must_run(
      train("run", {"--set", "data.train=out", "--set", "data.packing=first_fit", "--set", "train.context_length=16"}));
  expect_refused(
      train("wrong", {"--set", "data.train=out", "--set", "data.packing=first_fit", "--set", "train.context_length=8"}),
      {"data.train: ", "rows of 16 tokens", "--context 8"});
  expect_refused(train("wrong", {"--set", "data.packing=first_fit"}), {"data.train: ", "is not packed"});
  flip_bit(path("out/train/shard_00000.rows"), 9);
  expect_refused({"data", "verify", "out"}, {"shard_00000.rows", "damaged"});
}

TEST_F(BadData, Utf8AndMalformedLines) {
  write("bad.txt", "good line\nbad \xff\xfe line\n");
  write("bad.jsonl", "{\"text\": \"good\"}\n{\"text\": 5}\n");
  expect_refused(build("bad.txt", "out", {"--strict"}), {"bad.txt", "byte 14", "invalid UTF-8", "--strict"});
  expect_refused(build("bad.jsonl", "out", {"--strict"}), {"bad.jsonl:2", "'text'"});
  EXPECT_FALSE(fs::exists(path("out")));
  const Ended mended = must_run(build("bad.txt", "out", {"--validation-fraction", "0", "--json"}));
  EXPECT_EQ(mended.json()["invalid_utf8_documents"], 1);
  EXPECT_THAT(mended.err, HasSubstr("byte 14"));
}

TEST_F(BadData, Tokenizers) {
  const Arguments learn{"tokenizer", "train", "text.jsonl", "--out"};
  Arguments small = learn, large = learn, nowhere = learn;
  small.insert(small.end(), {"out.model", "--vocab-size", "50"});
  large.insert(large.end(), {"out.model", "--vocab-size", "1000000"});
  nowhere.insert(nowhere.end(), {"nowhere/out.model", "--vocab-size", "340"});
  expect_refused(small, {"--vocab-size 50", "too small"});
  expect_refused(large, {"--vocab-size 1000000", "too large"});
  must_run(nowhere);
  expect_refused({"data", "build", "text.jsonl", "--tokenizer", "tiny.yaml", "--out", "out"},
                 {"tiny.yaml", "not a SentencePiece model"});
  expect_refused({"tokenizer", "decode", "--model", "tok.model", "99999"}, {"99999", "0 to 339"});
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_FALSE(fs::exists(path("out.model")));
}

TEST_F(BadData, OnlyATokenizerIsReplacedByATokenizer) {
  const std::string text = read_file(path("text.jsonl"));
  const auto train_to = [](const std::string& out) {
    return Arguments{"tokenizer", "train", "text.jsonl", "--vocab-size", "330", "--out", out};
  };
  fs::create_directory(path("folder"));
  expect_refused(train_to("text.jsonl"), {"--out text.jsonl", "the text to learn from"});
  expect_refused(train_to("./text.jsonl"), {"the text to learn from"});
  expect_refused(train_to("tiny.yaml"), {"--out tiny.yaml", "no tokenizer"});
  expect_refused(train_to("folder"), {"--out folder", "is a folder"});
  expect_refused(train_to("tiny.yaml/x"), {"--out tiny.yaml/x", "Not a directory"});
  expect_refused(train_to(""), {"--out", "is empty"});
  expect_refused({"bench", "gemm", "--tokens", "1", "--save", "folder"}, {"--save folder", "is a folder"});
  expect_refused(build("text.jsonl", ""), {"--out", "is empty"});
  EXPECT_EQ(read_file(path("text.jsonl")), text);
  must_run(train_to("tok.model"));
}

TEST_F(BadData, MessagesOfOurOwn) {
  const Arguments learn{"tokenizer", "train", "text.jsonl", "--out", "out.model", "--vocab-size"};
  for (const char* size : {"0", "-1"}) {
    Arguments arguments = learn;
    arguments.emplace_back(size);
    expect_refused(arguments, {"--vocab-size", fmt::format("'{}'", size), "a whole number from 1"});
  }
  expect_refused({"tokenizer", "train", "text.jsonl", "--vocab-size", "330", "--out", "x", "--text-field", "body"},
                 {"holds no text", "no field 'body'", "--text-field"});
  expect_refused({"tokenizer", "train", "-", "--vocab-size", "330", "--out", "x"}, {"stdin: holds no text"});
  expect_refused({"tokenizer", "train", "text.jsonl", "--vocab-size", "1", "--out", "x"},
                 {"--vocab-size 1: too small"});
  write("nul.txt", std::string(1000, '\0'));
  expect_refused({"tokenizer", "train", "nul.txt", "--vocab-size", "330", "--out", "x"}, {"nul.txt: holds no", "NULs"});
  write("bad.jsonl", "{\"text\": \n");
  expect_refused(build("bad.jsonl", "out"), {"bad.jsonl:1 (not valid JSON)"});
  std::string manifest = read_file(path("data/train/manifest.json"));
  manifest.replace(manifest.find("vocab_size"), 5, "vocaB");
  write("data/train/manifest.json", manifest);
  expect_refused({"data", "info", "data"}, {"manifest.json: field 'vocab_size' is missing; the file is damaged"});
}

TEST_F(BadData, OtherInputAtTheSamePlace) {
  const std::vector<std::string> before = files_below(path("data"));
  expect_refused(build("text.jsonl", "data", {"--validation-fraction", "0.3"}),
                 {"data", "another --validation-fraction;", "--overwrite"});
  expect_refused(build("tiny.yaml", "data", {"--as", "txt", "--seed", "5"}), {"--seed", "other input"});
  EXPECT_EQ(files_below(path("data")), before);
  must_run({"data", "verify", "data"});
}

TEST_F(BadData, FoldersInTheWayOfABuild) {
  fs::create_directories(path("mine.partial/photos"));
  write("mine.partial/photos/a.jpg", "a picture");
  expect_refused(build("text.jsonl", "mine"), {"mine.partial", "move it away", "--out"});
  fs::rename(path("mine.partial"), path("mine.replaced"));
  expect_refused(build("text.jsonl", "mine"), {"mine.replaced", "move it away", "--out"});
  EXPECT_EQ(read_file(path("mine.replaced/photos/a.jpg")), "a picture");
  EXPECT_FALSE(fs::exists(path("mine")));
  EXPECT_FALSE(fs::exists(path("mine.partial")));
  expect_refused(build("text.jsonl", "out", {"--validation-fraction", "nan"}),
                 {"--validation-fraction nan", "less than 1"});
}

// Another valid tokenizer in the place of the data set's, with another number of pieces and with the same.
TEST_F(BadData, TheTokenizerOfTheDataIsAnother) {
  must_run(train("run"));
  write("other.jsonl", sample_text(2));
  const std::string own = read_file(path("data/train/tokenizer.model"));
  for (const char* pieces : {"330", "340"}) {
    must_run({"tokenizer", "train", "other.jsonl", "--vocab-size", pieces, "--out", "other.model"});
    for (const char* part : {"train", "validation"})
      write(fmt::format("data/{}/tokenizer.model", part), read_file(path("other.model")));
    for (const Arguments& command : {train("new"), {"eval", "--checkpoint", "run"}, {"data", "info", "data"}})
      expect_refused(command, {"tokenizer.model", "not the tokenizer of this data set", "sha256"});
    EXPECT_FALSE(fs::exists(path("new")));
  }
  for (const char* part : {"train", "validation"}) write(fmt::format("data/{}/tokenizer.model", part), own);
  must_run(train("new"));
  must_run(train("new"));
}

TEST_F(BadData, CutOffShard) {
  fs::resize_file(tokens(), fs::file_size(tokens()) - 10);
  for (const Arguments& command : {train("run"), {"data", "info", "data"}, {"data", "verify", "data"}})
    expect_refused(command, {"shard_00000.tokens", "expected"});
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(BadData, FlippedBit) {
  flip_bit(tokens(), 200);
  expect_refused({"data", "verify", "data"}, {"shard_00000.tokens", "damaged", "xxh3"});
}

TEST_F(BadData, TokenBeyondTheVocabulary) {
  std::string bytes = read_file(tokens());
  for (std::size_t i = 1; i < bytes.size(); i += 2) bytes[i] = '\x7f';
  write("data/train/shard_00000.tokens", bytes);
  expect_refused(train("run"), {"shard_00000.tokens", "is outside the vocabulary", "0 to 339"});
}

TEST_F(BadData, VocabularyOfTheModel) {
  expect_refused(train("run", {"--set", "model.vocab_size=300"}), {"vocabulary of 340", "model.vocab_size is 300"});
  expect_refused(train("run", {"--set", "data.train=nothere"}),
                 {"data.train: nothere", "no data set", "xlstm data build"});
  EXPECT_FALSE(fs::exists(path("run")));
  must_run(train("wider", {"--set", "model.vocab_size=400"}));  // padded: allowed
}

TEST_F(BadData, AnotherTokenizer) {
  write("other.jsonl", sample_text(2));
  must_run({"tokenizer", "train", "other.jsonl", "--vocab-size", "330", "--out", "other.model"});
  must_run(
      {"data", "build", "text.jsonl", "--tokenizer", "other.model", "--out", "other", "--validation-fraction", "0.1"});
  expect_refused(train("run", {"--set", "data.validation=other"}), {"data.validation", "tokenizer", "data.train"});
  EXPECT_FALSE(fs::exists(path("run")));
  must_run(train("run"));
  expect_refused({"eval", "--checkpoint", "run", "--data", "other"}, {"other", "tokenizer"});
  expect_refused({"generate", "--checkpoint", "run", "--tokenizer", "other.model"}, {"other.model", "tokenizer"});
  expect_refused(train("run", {"--set", "data.train=other", "--set", "data.validation=", "--set", "train.steps=20"}),
                 {"cannot resume", "other"});
}

}  // namespace
}  // namespace xlstm
