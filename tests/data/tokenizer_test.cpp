#include "data/tokenizer.h"

#include <gmock/gmock.h>

#include <numeric>

#include "core/json.h"
#include "data/tokenizer_trainer.h"
#include "data/utf8.h"
#include "support.h"
#include "tests/support/mutate.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kNasty = {
    "",
    " ",
    "\n",
    "\n\n\n   \n",
    "   leading and trailing   ",
    "tabs\t\t and\tmore\t",
    "CRLF\r\nlines\r\n\r\n",
    "a  b   c    d     e",
    "emoji 😀👩‍👩‍👧‍👦 flags 🇩🇪, accents é é, 日本語, العربية",
    "<|endoftext|> <unk> <0x0A> </s> <s> ▁ ▁▁ ▅ \u2581",
    std::string("nul \0 inside", 12),
    "\uFEFFbyte order mark",
    "\u00A0no-break\u2003em space\u3000ideographic",
    "control \x01\x02\x7f \u0085 \u2028 line separator",
    "\U0010FFFF last and \uE000 private",
    "ﬁ ligature ① circled Å angstrom ｆｕｌｌ",  // what a normaliser would change
};

TEST(Tokenizer, RoundTripsEveryByte) {
  const Tokenizer& t = sample_tokenizer();
  const std::vector<int> bytes = t.token_bytes();
  for (const std::string& text : kNasty) {
    const std::vector<int> ids = t.encode(text);
    EXPECT_EQ(t.decode(ids), text);
    std::size_t total = 0;
    for (const int id : ids) total += static_cast<std::size_t>(bytes[static_cast<std::size_t>(id)]);
    EXPECT_EQ(total, text.size()) << text;
  }
}

TEST(Tokenizer, RoundTripsLongRunsWithoutLineEnds) {
  const Tokenizer& t = sample_tokenizer();
  std::string words, blob;
  for (int i = 0; i < 40000; ++i) words += i % 7 ? "memory " : "  über";
  for (int i = 0; i < 100000; ++i) blob += "é";
  EXPECT_EQ(t.decode(t.encode(words)), words);
  EXPECT_EQ(t.decode(t.encode("x" + blob)), "x" + blob);
}

TEST(Tokenizer, TextNeverMakesControlIds) {
  const Tokenizer& t = sample_tokenizer();
  EXPECT_EQ(t.eod_id(), 0);
  for (const std::string& text : kNasty)
    for (const int id : t.encode(text)) EXPECT_GT(id, 1) << text;
  EXPECT_EQ(t.decode({0}), "");
  EXPECT_EQ(t.token_bytes()[0], 0);
  EXPECT_EQ(t.vocab_size(), 400);
}

TEST(Tokenizer, CuttingAtLineEndsChangesNothing) {  // encode() works line by line: the ids are those of the lines
  const Tokenizer& t = sample_tokenizer();
  for (const std::string& text : sample_documents(20)) {
    std::vector<int> joined;
    for (const std::string& half : {text + "\n", text}) {
      const auto ids = t.encode(half);
      joined.insert(joined.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(t.encode(text + "\n" + text), joined);
  }
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THAT(user_error_of([] { (void)sample_tokenizer().decode({400}); }), HasSubstr("400"));
  EXPECT_THAT(user_error_of([] { (void)sample_tokenizer().decode({-1}); }), HasSubstr("0 to 399"));
}

TEST(Tokenizer, RefusesFilesThatAreNoModel) {
  const TempDir dir;
  write_text(dir / "x.model", "not a model");
  EXPECT_THAT(user_error_of([&] { Tokenizer::load(dir / "x.model"); }),
              HasSubstr("x.model: not a SentencePiece model"));
  write_text(dir / "empty.model", "");
  EXPECT_NE(user_error_of([&] { Tokenizer::load(dir / "empty.model"); }), "");
  EXPECT_THAT(user_error_of([&] { Tokenizer::load(dir / "none.model"); }), HasSubstr("No such file"));
}

// Whatever stands in the file: a UserError, or a tokenizer that returns every text as it was.
TEST(Tokenizer, MutatedModelsNeverCrash) {
  const std::string& whole = sample_tokenizer().model();
  const std::string text = kNasty[8] + kNasty[11];
  int refused = 0;
  for (std::uint64_t round = 0; round < 300; ++round)
    refused += user_error_of([&] {
                 const Tokenizer t = Tokenizer::from_model(mutated(whole, {}, round), "mutated.model");
                 EXPECT_EQ(t.decode(t.encode(text)), text) << "round " << round;
               }) != "";
  EXPECT_GT(refused, 100);
}

TEST(StreamDecoder, GivesWholeCharactersOnly) {
  const Tokenizer& t = sample_tokenizer();
  for (const std::string& text : kNasty) {
    StreamDecoder stream(t);
    std::string out;
    for (const int id : t.encode(text)) {
      const std::string part = stream.push(id);
      EXPECT_EQ(find_invalid_utf8(part), std::string::npos);
      out += part;
    }
    EXPECT_EQ(out + stream.finish(), text);
  }
}

TEST(StreamDecoder, ReplacesBytesThatAreNoCharacter) {
  const Tokenizer& t = sample_tokenizer();
  const int e2 = t.encode("▁")[0];  // the byte piece of 0xE2
  StreamDecoder stream(t);
  EXPECT_EQ(stream.push(e2), "");
  EXPECT_EQ(stream.push(e2), "\uFFFD");
  EXPECT_EQ(stream.push(t.encode("x")[0]), "\uFFFDx");
  EXPECT_EQ(stream.push(e2), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TrainTokenizer, IsDeterministicAndSaysWhichSizesWork) {
  const TempDir dir;
  std::string all;
  for (const std::string& text : sample_documents(50)) all += text;
  write_text(dir / "a.txt", all);
  TokenizerTraining training{.inputs = {(dir / "a.txt").string()}, .vocab_size = 350};
  EXPECT_EQ(train_tokenizer(training), train_tokenizer(training));

  training.vocab_size = 100000;
  const std::string too_large = user_error_of([&] { train_tokenizer(training); });
  ASSERT_THAT(too_large, HasSubstr("the largest that works is "));
  training.vocab_size = std::stoi(too_large.substr(too_large.rfind(' ')));
  EXPECT_EQ(Tokenizer::from_model(train_tokenizer(training), "largest").vocab_size(), training.vocab_size);

  training.vocab_size = 10;
  EXPECT_THAT(user_error_of([&] { train_tokenizer(training); }), HasSubstr("too small"));
  training.vocab_size = 270;
  write_text(dir / "empty.txt", "");
  training.inputs = {(dir / "empty.txt").string()};
  EXPECT_THAT(user_error_of([&] { train_tokenizer(training); }), HasSubstr("holds no text"));
}

TEST(TrainTokenizer, SurvivesItsOwnMarksInTheText) {
  const TempDir dir;
  std::string all;
  for (int i = 0; i < 300; ++i)
    all += "<unk> <|endoftext|> <0x0A> ▁x▅y \t " + std::string(1, '\0') + " the end " + std::to_string(i) + "\n";
  write_text(dir / "a.txt", all);
  const Tokenizer t =
      Tokenizer::from_model(train_tokenizer({.inputs = {(dir / "a.txt").string()}, .vocab_size = 320}), "t");
  EXPECT_EQ(t.decode(t.encode(all)), all);
}

// Whatever stands in the text, packed or not: one line that says what is wrong, or a tokenizer that loses nothing.
TEST(TrainTokenizer, MutatedTextNeverCrashes) {
  const TempDir dir;
  std::string plain, json;
  for (const std::string& text : sample_documents(12)) {
    plain += text;
    json += Json{{"text", text}}.dump() + "\n";
  }
  const std::vector<std::string> words = {"\xE2\x96\x81", "\xE2\x96\x85", "\xFF", "\xEF\xBB\xBF", "\0",
                                          "<unk>",        "<0x0A>",       "\r",   "\"",           "\\ud800"};
  const std::vector<std::pair<std::string, std::string>> files = {
      {"a.txt", plain}, {"a.jsonl", json}, {"a.txt.gz", gzip(plain)}, {"a.jsonl.zst", zstd(json)}};
  int refused = 0;
  for (std::uint64_t round = 0; round < 200; ++round) {
    const auto& [name, whole] = files[round % files.size()];
    write_text(dir / name, mutated(whole, words, round));
    TokenizerTraining training{.inputs = {(dir / name).string()}, .vocab_size = 330};
    training.text.strict = round % 3 == 0;
    const std::string message = user_error_of([&] {
      const Tokenizer t = Tokenizer::from_model(train_tokenizer(training), "t");
      EXPECT_EQ(t.decode(t.encode(plain)), plain) << "round " << round;
    });
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    refused += !message.empty();
  }
  EXPECT_GT(refused, 30);
  EXPECT_LT(refused, 170);
}

TEST(TrainTokenizer, SamplesLinesOfALargeText) {
  const TempDir dir;
  std::string all;
  for (int i = 0; i < 5000; ++i) all += i < 4000 ? "early words come first\n" : "late words come last\n";
  write_text(dir / "a.txt", all);
  const std::string model =
      train_tokenizer({.inputs = {(dir / "a.txt").string()}, .vocab_size = 300, .sample_bytes = 20000});
  const Tokenizer t = Tokenizer::from_model(model, "t");
  EXPECT_EQ(t.encode("late").size(), 1u);  // the end of the text was sampled too
}

TEST(Utf8, RepairsWhatIsIllFormed) {
  const auto repair = [](std::string_view text) {
    i64 replaced = 0;
    std::string out = repair_utf8(text, replaced);
    return out + "|" + std::to_string(replaced);
  };
  EXPECT_EQ(repair("plain é"), "plain é|0");
  EXPECT_EQ(repair("a\xFF\xFE b"), "a\uFFFD\uFFFD b|2");
  EXPECT_EQ(repair("\xE2\x82"), "\uFFFD|1");                              // cut off: one maximal piece
  EXPECT_EQ(repair("\xC0\xAF"), "\uFFFD\uFFFD|2");                        // overlong
  EXPECT_EQ(repair("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD|3");              // a surrogate
  EXPECT_EQ(repair("\xF4\x90\x80\x80x"), "\uFFFD\uFFFD\uFFFD\uFFFDx|4");  // beyond U+10FFFF
  EXPECT_EQ(repair("\x80é\x80"), "\uFFFDé\uFFFD|2");
  EXPECT_EQ(find_invalid_utf8("ab\xFF"), 2u);
  EXPECT_EQ(whole_characters("ab\xE2\x82"), 2u);
  EXPECT_EQ(whole_characters("ab\xE2\x82\xAC"), 5u);
  EXPECT_EQ(whole_characters("\xF0\x9F\x98"), 0u);
  EXPECT_EQ(whole_characters("\x80\x80\x80\x80"), 4u);  // no character at all: nothing to wait for
}

}  // namespace
}  // namespace xlstm
