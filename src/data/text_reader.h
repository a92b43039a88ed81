#pragma once
// DocumentReader: the documents of a list of text sources, one after the other, as valid UTF-8. It streams: no more
// than one document is in memory.
#include <memory>
#include <string>
#include <vector>

#include "data/text_source.h"

namespace xlstm {

struct Document {
  std::string text;        // valid UTF-8, never empty
  i64 original_bytes = 0;  // of the text as it came (of a JSON string: after replacing invalid bytes)
};

// What was found and mended on the way; empty documents are skipped.
struct ReadStats {
  i64 documents = 0, text_bytes = 0;
  i64 invalid_utf8_documents = 0, invalid_utf8_replaced = 0;
  i64 malformed_lines = 0, empty_documents = 0;
  std::string first_invalid_utf8, first_malformed;  // where: "book.txt, byte 17", "part.jsonl:12 (no field 'text')"
};

// One line of counts for a person, or "" when nothing was mended.
std::string mended_summary(const ReadStats& stats);

class LineStream;
class JsonLines;

class DocumentReader {
 public:
  // A txt document is cut into several at the first line end after this many bytes (and lines at twice as many).
  static constexpr std::size_t kLongestDocument = std::size_t{64} << 20;
  static constexpr std::size_t kLongestJsonLine = std::size_t{1} << 30;

  DocumentReader(std::vector<TextSource> sources, TextOptions options, std::size_t longest_document = kLongestDocument);
  ~DocumentReader();

  // False at the end of the last source. UserError on damaged input, and with `strict` on anything that would have
  // been mended.
  bool next(Document& document);

  i64 packed_bytes_read() const;  // of the files as they lie there, for progress
  const ReadStats& stats() const { return stats_; }

 private:
  bool next_raw(std::string& text);
  bool next_txt(std::string& text);
  bool next_json(std::string& text);
  void mend(std::string& text, const std::string& where, i64 first_byte);

  std::vector<TextSource> sources_;
  TextOptions options_;
  std::size_t longest_document_;
  std::size_t current_ = 0;
  std::unique_ptr<LineStream> lines_;
  std::unique_ptr<JsonLines> json_;
  i64 line_number_ = 0;  // of the current JSON source, from 1
  i64 done_sources_bytes_ = 0;
  i64 original_bytes_ = 0;  // of the document at hand
  ReadStats stats_;
};

}  // namespace xlstm
