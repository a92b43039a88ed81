#pragma once
// Files of token ids that other trainers have made (docs/formats.md). A file that is damaged, or is not what it seems,
// is a UserError that names file and offset.
#include <optional>
#include <vector>

#include "core/file.h"

namespace xlstm {

enum class TokenFormat : std::uint8_t {
  by_content,  // llm.c, Megatron and .npy files say what they are
  llmc,
  megatron,  // .bin with .idx beside it
  numpy,     // .npy, one dimension
  raw_uint16,
  raw_uint32,  // ids and nothing else, as numpy's tofile and memmap write them
};

class TokenFile {
 public:
  TokenFile(const fs::path& path, TokenFormat format);

  const fs::path& path() const { return file_.path(); }
  const char* kind() const { return kind_; }  // "llm.c"
  i64 tokens() const { return tokens_; }

  // The vocabulary that the format stands for: of an llm.c file.
  struct Vocabulary {
    const char* name;
    i64 size, eod;
  };
  const std::optional<Vocabulary>& vocabulary() const { return vocabulary_; }

  // Where documents end, in tokens, ascending: of a Megatron file. Others mark it by the end-of-document id alone.
  const std::vector<i64>& document_ends() const { return document_ends_; }

  // out[0, count) = the ids from `first` on; 0 <= id < vocab_size, or UserError naming file, token and id.
  void read(i64 first, i64 count, i64 vocab_size, std::int32_t* out) const;

 private:
  enum class Element : std::uint8_t { uint8, uint16, int16, uint32, int32, int64 };
  static i64 size_of(Element e);
  void open_llmc();
  void open_megatron();
  void open_numpy();
  void open_raw(Element element);
  void set_content(Element element, i64 offset, i64 tokens);

  InputFile file_;
  const char* kind_ = "";
  Element element_ = Element::uint16;
  i64 offset_ = 0, tokens_ = 0;
  std::optional<Vocabulary> vocabulary_;
  std::vector<i64> document_ends_;
};

}  // namespace xlstm
