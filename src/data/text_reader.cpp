#include "data/text_reader.h"

#include <simdjson.h>

#include "core/text.h"
#include "data/line_stream.h"

namespace xlstm {

std::string mended_summary(const ReadStats& s) {
  std::string out;
  if (s.invalid_utf8_documents > 0)
    out += fmt::format("{} had invalid UTF-8, {} replaced by U+FFFD (first: {}); ",
                       counted(s.invalid_utf8_documents, "document"), counted(s.invalid_utf8_replaced, "piece"),
                       s.first_invalid_utf8);
  if (s.malformed_lines > 0)
    out += fmt::format("{} left out (first: {}); ", counted(s.malformed_lines, "malformed line"), s.first_malformed);
  if (s.empty_documents > 0) out += fmt::format("{} left out; ", counted(s.empty_documents, "empty document"));
  if (!out.empty()) out.resize(out.size() - 2);
  return out;
}

// The parser keeps its memory between lines.
class JsonLines {
 public:
  // The text field of one line, or in `why` what is wrong with the line.
  bool text_of(const std::string& line, const std::string& field, std::string& text, std::string& why) {
    simdjson::dom::element root;
    if (parser_.parse(line).get(root)) {
      why = "not valid JSON";
      return false;
    }
    std::string_view value;
    const auto error = root[field].get(value);
    if (error == simdjson::NO_SUCH_FIELD)
      why = fmt::format("no field '{}'; --text-field names another", field);
    else if (error)
      why = fmt::format("field '{}' is not a string in an object", field);
    text = error ? std::string_view() : value;
    return !error;
  }

 private:
  simdjson::dom::parser parser_;
};

DocumentReader::DocumentReader(std::vector<TextSource> sources, TextOptions options, std::size_t longest_document)
    : sources_(std::move(sources)),
      options_(std::move(options)),
      longest_document_(longest_document),
      json_(std::make_unique<JsonLines>()) {}

DocumentReader::~DocumentReader() = default;

i64 DocumentReader::packed_bytes_read() const {
  return done_sources_bytes_ + (lines_ ? lines_->packed_bytes_read() : 0);
}

bool DocumentReader::next(Document& document) {
  while (next_raw(document.text)) {
    if (document.text.empty()) {
      ++stats_.empty_documents;
      continue;
    }
    document.original_bytes = original_bytes_;
    ++stats_.documents;
    stats_.text_bytes += original_bytes_;
    return true;
  }
  return false;
}

// The next document of any source, perhaps empty.
bool DocumentReader::next_raw(std::string& text) {
  for (;; ++current_) {
    if (!lines_) {
      if (current_ == sources_.size()) return false;
      lines_ = std::make_unique<LineStream>(sources_[current_].path, sources_[current_].compression);
    }
    text.clear();
    if (sources_[current_].format == TextFormat::jsonl ? next_json(text) : next_txt(text)) return true;
    if (lines_->offset() == 0) ++stats_.empty_documents;
    done_sources_bytes_ += lines_->packed_bytes_read();
    lines_.reset();
    line_number_ = 0;
  }
}

bool DocumentReader::next_txt(std::string& text) {
  const std::string& separator = options_.document_separator;
  const i64 first_byte = lines_->offset();
  bool separated = false;
  while (text.size() < longest_document_) {
    const std::size_t start = text.size();
    if (!lines_->append_line(text, longest_document_)) break;
    if (separator.empty()) continue;
    std::string_view line = std::string_view(text).substr(start);
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line == separator) {
      text.resize(start);
      separated = true;
      break;
    }
  }
  if (text.empty() && !separated) return false;
  mend(text, name_of_input(sources_[current_].path), first_byte);
  return true;
}

bool DocumentReader::next_json(std::string& text) {
  std::string line, why;
  for (;;) {
    const i64 first_byte = lines_->offset();
    line.clear();
    if (!lines_->append_line(line, kLongestJsonLine)) return false;
    const std::string where = fmt::format("{}:{}", name_of_input(sources_[current_].path), ++line_number_);
    if (line.size() >= kLongestJsonLine)
      throw user_error("{}: expected JSON lines, found a line of more than {} bytes", where, kLongestJsonLine);
    if (first_byte == 0 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);  // a byte-order mark
    if (line.find_first_not_of(" \t\r\n") == line.npos) continue;
    mend(line, where, 0);
    if (json_->text_of(line, options_.text_field, text, why)) {
      original_bytes_ = static_cast<i64>(text.size());
      return true;
    }
    if (options_.strict) throw user_error("{}: {}; without --strict such lines are left out and counted", where, why);
    if (stats_.malformed_lines++ == 0) stats_.first_malformed = fmt::format("{} ({})", where, why);
  }
}

// Makes `text`, which begins at byte `first_byte` of `where`, valid UTF-8.
void DocumentReader::mend(std::string& text, const std::string& where, i64 first_byte) {
  original_bytes_ = static_cast<i64>(text.size());
  const std::size_t bad = find_invalid_utf8(text);
  if (bad == std::string::npos) return;
  const std::string place = fmt::format("{}, byte {}", where, first_byte + static_cast<i64>(bad));
  if (options_.strict)
    throw user_error("{}: invalid UTF-8; without --strict it is replaced by U+FFFD and counted", place);
  if (stats_.invalid_utf8_documents++ == 0) stats_.first_invalid_utf8 = place;
  text = repair_utf8(text, stats_.invalid_utf8_replaced);
}

}  // namespace xlstm
