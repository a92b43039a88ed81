#include "data/tokenizer.h"

#include <sentencepiece_processor.h>

#include "core/hash.h"
#include "data/utf8.h"

namespace xlstm {

namespace {

constexpr std::string_view kSpaceMark = "\u2581";  // how SentencePiece writes a space inside a piece
constexpr std::size_t kLongestRun = 1 << 16;       // bytes: SentencePiece's memory and time grow with the run

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (std::size_t at; (at = piece.find(kSpaceMark)) != piece.npos; piece.remove_prefix(at + kSpaceMark.size()))
    out.append(piece.substr(0, at)) += ' ';
  return out.append(piece);
}

// Where to cut a run that is too long: before the last space that follows a non-space, where no piece of ours spans
// the cut; else at the end of a character. It depends on the text alone.
std::size_t cut_of(std::string_view run) {
  if (run.size() <= kLongestRun) return run.size();
  const std::string_view head = run.substr(0, kLongestRun);
  for (std::size_t at = head.size() - 1; at > kLongestRun / 2; --at)
    if (head[at] == ' ' && head[at - 1] != ' ') return at;
  return whole_characters(head);
}

}  // namespace

Tokenizer::Tokenizer() : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const fs::path& path) { return from_model(read_file(path), path); }

bool Tokenizer::is_model(const fs::path& path) {
  sentencepiece::SentencePieceProcessor processor;
  return processor.LoadFromSerializedProto(read_file(path)).ok() && processor.GetPieceSize() > 0;
}

Tokenizer Tokenizer::from_model(std::string model, const fs::path& name) {
  Tokenizer t;
  if (!t.processor_->LoadFromSerializedProto(model).ok() || t.processor_->GetPieceSize() == 0)
    throw user_error("{}: not a SentencePiece model; make one with 'xlstm tokenizer train'", name.string());
  t.model_ = std::move(model);
  t.sha256_ = sha256_hex(t.model_);
  t.read_pieces(name);
  const std::string probe = "  two  spaces\t\ttab\r\n\n  \u2581 \u00e9\U0001F600 <|endoftext|> end ";
  if (t.decode(t.encode(probe)) != probe)
    throw user_error(
        "{}: this tokenizer changes text (it normalises or drops spaces); make a lossless one with "
        "'xlstm tokenizer train'",
        name.string());
  return t;
}

void Tokenizer::read_pieces(const fs::path& name) {
  const auto& sp = *processor_;
  eod_id_ = sp.eos_id();
  if (eod_id_ < 0)
    throw user_error("{}: the tokenizer has no end-of-document piece; make one with 'xlstm tokenizer train'",
                     name.string());
  byte_id_.fill(-1);
  bool piece_spans_lines = false;
  for (int id = 0; id < sp.GetPieceSize(); ++id) {
    const std::string& piece = sp.IdToPiece(id);
    std::string bytes;
    if (sp.IsByte(id)) {
      const int value = std::stoi(piece.substr(3, 2), nullptr, 16);  // "<0xE2>"
      bytes = static_cast<char>(value);
      byte_id_[static_cast<std::size_t>(value)] = id;
    } else if (!sp.IsControl(id) && !sp.IsUnknown(id)) {
      bytes = with_spaces(piece);
      if (bytes.size() > 1 && bytes.find('\n') != bytes.npos) piece_spans_lines = true;
    }
    bytes_of_.push_back(std::move(bytes));
  }
  for (const int id : byte_id_)
    if (id < 0)
      throw user_error("{}: the tokenizer has no byte fallback; make one with 'xlstm tokenizer train'", name.string());
  if (!piece_spans_lines) newline_id_ = sp.IsUnknown(sp.PieceToId("\n")) ? byte_id_['\n'] : sp.PieceToId("\n");
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  ids.reserve(text.size() / 3 + 16);
  if (newline_id_ < 0) {
    encode_line(text, ids);
    return ids;
  }
  for (;;) {
    const std::size_t end = text.find('\n');
    encode_line(text.substr(0, end), ids);
    if (end == text.npos) return ids;
    ids.push_back(newline_id_);
    text.remove_prefix(end + 1);
  }
}

// A U+2581 in the text itself would come back as a space: it goes out as its three bytes.
void Tokenizer::encode_line(std::string_view line, std::vector<int>& ids) const {
  for (std::size_t at; (at = line.find(kSpaceMark)) != line.npos; line.remove_prefix(at + kSpaceMark.size())) {
    encode_run(line.substr(0, at), ids);
    for (const char c : kSpaceMark) ids.push_back(byte_id_[static_cast<unsigned char>(c)]);
  }
  encode_run(line, ids);
}

void Tokenizer::encode_run(std::string_view run, std::vector<int>& ids) const {
  std::vector<int> part;
  while (!run.empty()) {
    const std::size_t cut = cut_of(run);
    const auto status = processor_->Encode(run.substr(0, cut), &part);
    XL_CHECK(status.ok(), "SentencePiece: {}", status.ToString());
    ids.insert(ids.end(), part.begin(), part.end());
    run.remove_prefix(cut);
  }
}

std::string Tokenizer::decode(const std::vector<int>& ids) const {
  std::string text;
  for (const int id : ids) {
    if (id < 0 || id >= vocab_size())
      throw user_error("token id {} is outside the vocabulary: expected 0 to {}", id, vocab_size() - 1);
    text += bytes_of_[static_cast<std::size_t>(id)];
  }
  return text;
}

std::string Tokenizer::piece(int id) const { return processor_->IdToPiece(id); }

std::vector<int> Tokenizer::token_bytes() const {
  std::vector<int> bytes;
  for (const std::string& b : bytes_of_) bytes.push_back(static_cast<int>(b.size()));
  return bytes;
}

std::string StreamDecoder::push(int id) {
  pending_ += tokenizer_.decode({id});
  const std::size_t whole = whole_characters(pending_);
  i64 replaced = 0;
  std::string out = repair_utf8(std::string_view(pending_).substr(0, whole), replaced);
  pending_.erase(0, whole);
  return out;
}

std::string StreamDecoder::finish() {
  i64 replaced = 0;
  return repair_utf8(std::exchange(pending_, {}), replaced);
}

}  // namespace xlstm
