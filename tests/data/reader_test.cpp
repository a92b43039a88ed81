#include <gmock/gmock.h>

#include <map>

#include "core/json.h"
#include "data/text_reader.h"
#include "data/utf8.h"
#include "support.h"
#include "tests/support/mutate.h"

namespace xlstm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Read {
  std::vector<std::string> documents;
  ReadStats stats;
};

Read read_all(const std::vector<std::string>& inputs, const TextOptions& options = {},
              std::size_t longest = DocumentReader::kLongestDocument) {
  DocumentReader reader(find_sources(inputs, options), options, longest);
  Read out;
  Document document;
  while (reader.next(document)) out.documents.push_back(document.text);
  out.stats = reader.stats();
  return out;
}

class ReaderTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    write_text(dir_ / name, text);
    return (dir_ / name).string();
  }
  std::string dir() const { return dir_.path().string(); }
  TempDir dir_;
};

// Pieces that alternate with text are the worst case: minutes where the time grows with the square of the length.
TEST(Utf8, ManyBadPiecesTakeLinearTime) {
  std::string text, expected;
  for (int i = 0; i < 2'000'000; ++i) text += "\xff a", expected += "\uFFFD a";
  i64 replaced = 0;
  EXPECT_TRUE(repair_utf8(text, replaced) == expected);
  EXPECT_EQ(replaced, 2'000'000);
}

TEST_F(ReaderTest, TxtIsOneDocumentUnlessSeparated) {
  const std::string path = file("a.txt", "one\ntwo\n---\nthree\r\n---\r\n---\nfour");
  EXPECT_THAT(read_all({path}).documents, ElementsAre("one\ntwo\n---\nthree\r\n---\r\n---\nfour"));
  const Read read = read_all({path}, {.document_separator = "---"});
  EXPECT_THAT(read.documents, ElementsAre("one\ntwo\n", "three\r\n", "four"));
  EXPECT_EQ(read.stats.empty_documents, 1);
}

TEST_F(ReaderTest, JsonLines) {
  const std::string path = file(
      "a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\\n\\u00e9\"}\n\n{\"id\": 3, \"text\": \"two\"}\r\n{\"text\": \"\"}");
  const Read read = read_all({path});
  EXPECT_THAT(read.documents, ElementsAre("one\né", "two"));
  EXPECT_EQ(read.stats.empty_documents, 1);
  EXPECT_EQ(read.stats.text_bytes, 9);
  EXPECT_THAT(read_all({file("b.jsonl", "{\"body\": \"x\"}")}, {.text_field = "body"}).documents, ElementsAre("x"));
}

TEST_F(ReaderTest, MalformedLinesAreCountedOrRefused) {
  const std::string path = file(
      "a.jsonl", "{\"text\": \"one\"}\n{\"text\": oops}\n{\"txt\": \"x\"}\n[1]\n{\"text\": 7}\n{\"text\": \"two\"}\n");
  const Read read = read_all({path});
  EXPECT_THAT(read.documents, ElementsAre("one", "two"));
  EXPECT_EQ(read.stats.malformed_lines, 4);
  EXPECT_THAT(mended_summary(read.stats), HasSubstr("4 malformed lines left out (first: " + path + ":2"));
  EXPECT_THAT(user_error_of([&] { read_all({path}, {.strict = true}); }), HasSubstr("a.jsonl:2: "));
}

TEST_F(ReaderTest, InvalidUtf8IsReplacedAndCountedOrRefused) {
  const std::string path = file("a.txt", "good\nbad \xFF\xFE here");
  const Read read = read_all({path});
  EXPECT_THAT(read.documents, ElementsAre("good\nbad \uFFFD\uFFFD here"));
  EXPECT_EQ(read.stats.invalid_utf8_documents, 1);
  EXPECT_EQ(read.stats.invalid_utf8_replaced, 2);
  EXPECT_EQ(read.stats.text_bytes, 16);
  EXPECT_THAT(user_error_of([&] { read_all({path}, {.strict = true}); }), HasSubstr("a.txt, byte 9: invalid UTF-8"));
  const std::string json = file("b.jsonl", "{\"text\": \"a\xFF\"}\n");
  EXPECT_THAT(read_all({json}).documents, ElementsAre("a\uFFFD"));
  EXPECT_THAT(user_error_of([&] { read_all({json}, {.strict = true}); }), HasSubstr("b.jsonl:1, byte 11"));
}

TEST_F(ReaderTest, PackedFilesReadAsPlainOnes) {
  std::string text;
  for (int i = 0; i < 50000; ++i) text += "line " + std::to_string(i) + " ünï\n";
  for (const std::string& path : {file("a.txt", text), file("b.txt.gz", gzip(text)), file("c.txt.zst", zstd(text))})
    EXPECT_THAT(read_all({path}).documents, ElementsAre(text)) << path;
  const std::string half = text.substr(0, 100);  // members one after the other are one text
  EXPECT_THAT(read_all({file("d.txt.gz", gzip(half) + gzip(half))}).documents, ElementsAre(half + half));
  EXPECT_THAT(read_all({file("e.txt.zst", zstd(half) + zstd(half))}).documents, ElementsAre(half + half));
}

TEST_F(ReaderTest, DamagedPackedFilesAreRefusedWithTheOffset) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += std::to_string(i * 7919 % 10007) + " ";
  for (const auto& [name, packed] : {std::pair{"a.txt.gz", gzip(text)}, std::pair{"a.txt.zst", zstd(text)}}) {
    const std::string cut = file(name, packed.substr(0, packed.size() / 2));
    EXPECT_THAT(user_error_of([&] { read_all({cut}); }),
                HasSubstr(fmt::format("cut off at byte {}", packed.size() / 2)));
    std::string flipped = packed;
    flipped[2] = static_cast<char>(flipped[2] ^ 0x55);
    const std::string damaged = file(name, flipped);
    EXPECT_THAT(user_error_of([&] { read_all({damaged}); }), HasSubstr("damaged at byte"));
    const std::string unpacked = file(name, text);
    EXPECT_THAT(user_error_of([&] { read_all({unpacked}); }), HasSubstr("damaged at byte"));
  }
}

TEST_F(ReaderTest, LongDocumentsAreCutAtLineEnds) {
  std::string text, joined;
  for (int i = 0; i < 200; ++i) text += "line number " + std::to_string(i) + "\n";
  for (const std::string& part : read_all({file("a.txt", text)}, {}, 100).documents) {
    EXPECT_LE(part.size(), 200u);
    EXPECT_EQ(part.back(), '\n');
    joined += part;
  }
  EXPECT_EQ(joined, text);
  std::string one_line;
  for (int i = 0; i < 200; ++i) one_line += "日本";
  const Read read = read_all({file("b.txt", one_line)}, {}, 100);
  joined.clear();
  for (const std::string& part : read.documents) joined += part;
  EXPECT_EQ(joined, one_line);
  EXPECT_EQ(read.stats.invalid_utf8_documents, 0);
}

TEST_F(ReaderTest, FoldersAreSortedAndFiltered) {
  file("f/b.txt", "b");
  file("f/a/z.txt", "z");
  file("f/a.jsonl", "{\"text\": \"j\"}");
  file("f/vector", "v");
  file("f/x.h", "h");
  EXPECT_THAT(read_all({dir() + "/f"}).documents, ElementsAre("j", "z", "b"));
  EXPECT_THAT(read_all({dir() + "/f"}, {.as = TextFormat::txt}).documents,
              ElementsAre("{\"text\": \"j\"}", "z", "b", "v", "h"));
  EXPECT_THAT(read_all({dir() + "/f"}, {.as = TextFormat::txt, .extensions = {".h", ""}}).documents,
              ElementsAre("v", "h"));
}

TEST_F(ReaderTest, InputsThatCannotBeReadAreNamed) {
  EXPECT_THAT(user_error_of([&] { read_all({dir() + "/none.txt"}); }), HasSubstr("none.txt: no such file"));
  EXPECT_THAT(user_error_of([&] { read_all({file("x.bin", "x")}); }), HasSubstr("--as txt"));
  fs::create_directory(dir_ / "empty");
  EXPECT_THAT(user_error_of([&] { read_all({dir() + "/empty"}); }), HasSubstr("none of its 0 files"));
  EXPECT_THAT(user_error_of([&] { read_all({}); }), HasSubstr("no input"));
}

// Whatever stands in the file: documents of valid UTF-8, or a UserError.
TEST_F(ReaderTest, MutatedFilesNeverCrash) {
  std::string lines;
  for (const std::string& document : sample_documents(6)) lines += Json{{"id", 7}, {"text", document}}.dump() + "\n";
  const std::map<std::string, std::string> whole = {
      {"a.txt", lines}, {"a.jsonl", lines}, {"a.jsonl.gz", gzip(lines)}, {"a.txt.zst", zstd(lines)}};
  for (const auto& [name, bytes] : whole)
    for (std::uint64_t round = 0; round < 400; ++round) {
      const std::string path = file(name, mutated(bytes, kJsonWords, round));
      user_error_of([&] {
        for (const std::string& document : read_all({path}, {}, /*longest=*/100).documents)
          EXPECT_EQ(find_invalid_utf8(document), std::string::npos) << name << ", round " << round;
      });
    }
}

}  // namespace
}  // namespace xlstm
