#pragma once
// Tokenizer: text to token ids and back, byte for byte. The model is SentencePiece BPE with byte fallback and no
// normalisation, so that every text, also code with tabs and runs of spaces, comes back as it went in.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace xlstm {

// What a data set keeps of its tokenizer.
struct TokenizerIdentity {
  std::string model, sha256;  // the file, and its digest
  i64 vocab_size = 0, eod_id = 0;
  std::vector<int> token_bytes{};  // of text, by id; empty when it is not known
};

class Tokenizer {
 public:
  // UserError when the file is no SentencePiece model, or one that loses something of the text.
  static Tokenizer load(const fs::path& path);
  // Whether a file is a SentencePiece model, of whatever kind.
  static bool is_model(const fs::path& path);
  static Tokenizer from_model(std::string model, const fs::path& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // `text` is valid UTF-8. Text can never produce the id of a control piece: a literal "<|endoftext|>" is just text.
  // Safe to call from several threads.
  std::vector<int> encode(std::string_view text) const;

  // The bytes that the ids stand for. Ids that a model made up may give bytes that are not UTF-8 (see StreamDecoder).
  // UserError on an id outside the vocabulary.
  std::string decode(const std::vector<int>& ids) const;

  int vocab_size() const { return static_cast<int>(bytes_of_.size()); }
  int eod_id() const { return eod_id_; }                 // stands after every document
  const std::string& sha256() const { return sha256_; }  // of the model file
  const std::string& model() const { return model_; }    // the model file itself
  std::string piece(int id) const;                       // as SentencePiece writes it, for people

  TokenizerIdentity identity() const { return {model_, sha256_, vocab_size(), eod_id_, token_bytes()}; }

  // Number of bytes of the original text that each id stands for; 0 for control pieces.
  std::vector<int> token_bytes() const;

 private:
  Tokenizer();
  void read_pieces(const fs::path& name);
  void encode_line(std::string_view line, std::vector<int>& ids) const;
  void encode_run(std::string_view run, std::vector<int>& ids) const;

  friend class StreamDecoder;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::string model_, sha256_;
  std::vector<std::string> bytes_of_;  // by id
  std::array<int, 256> byte_id_{};     // byte -> id of its fallback piece
  int newline_id_ = -1;                // -1: pieces may span lines, so text must not be cut there
  int eod_id_ = -1;
};

// Decodes one id at a time, for streaming: gives out whole UTF-8 characters only, U+FFFD for bytes that can be none.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(int id);
  std::string finish();  // what a cut-off character at the end amounts to

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace xlstm
