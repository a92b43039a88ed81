#pragma once
// From what stands on the command line (files, folders, "-") to the list of files to read, in a fixed order.
#include <string>
#include <vector>

#include "data/byte_stream.h"

namespace xlstm {

enum class TextFormat : std::uint8_t {
  by_suffix,  // .txt or .jsonl, each also with .gz or .zst
  txt,        // a file is a document, or several with a separator line
  jsonl,      // a line is an object with a text field: a document
};
const char* name_of(TextFormat format);

struct TextOptions {
  TextFormat as = TextFormat::by_suffix;     // anything else forces the format, whatever a file is called
  std::vector<std::string> extensions = {};  // of files in folders: ".h"; "" = names without a dot; none listed = all
  std::string text_field = "text";           // of JSON lines
  std::string document_separator = {};       // of txt: a line that is exactly this ends a document; "" = none
  bool strict = false;                       // refuse invalid UTF-8 and malformed lines instead of mending and counting
};

struct TextSource {
  fs::path path;  // "-" is stdin
  TextFormat format;
  Compression compression;
  i64 bytes;        // of the file as it lies there; 0 for stdin
  i64 modified_ns;  // time of last change, to know a file again; 0 for stdin
};

// Folders are walked recursively, files sorted by path. UserError when an input is missing, of unknown format, or
// when nothing is left to read.
std::vector<TextSource> find_sources(const std::vector<std::string>& inputs, const TextOptions& options);

// Sum over the sources; 0 when one of them is stdin.
i64 total_bytes(const std::vector<TextSource>& sources);

}  // namespace xlstm
