#include "data/tokenizer_trainer.h"

#include <sentencepiece_trainer.h>

#include <algorithm>

#include "core/log.h"
#include "core/random.h"
#include "data/utf8.h"

namespace xlstm {

namespace {

constexpr std::size_t kLongestSentence = 1 << 14;  // bytes

// The trainer drops sentences that hold its own marks, and tabs are pieces of their own here: all become line ends.
void end_lines_at_marks(std::string& text) {
  for (const std::string_view mark : {"\u2581", "\u2585"})
    for (std::size_t at = 0; (at = text.find(mark, at)) != text.npos;) text.replace(at, mark.size(), mark.size(), '\n');
  for (char& c : text)
    if (c == '\t' || c == '\0') c = '\n';
}

// Lines of the documents, a sample of them when the text is larger than asked for.
class SampledLines final : public sentencepiece::SentenceIterator {
 public:
  explicit SampledLines(const TokenizerTraining& training)
      : SampledLines(training, find_sources(training.inputs, training.text)) {}

  bool done() const override { return sentence_.empty(); }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    sentence_.clear();
    while (sampled_ < sample_bytes_ && (!rest_.empty() || next_document())) {
      const std::size_t end = std::min(rest_.find('\n'), cut());
      const bool keep = random_.uniform(sentence_number_++) < share_;
      if (keep) sentence_ = rest_.substr(0, end);
      rest_.remove_prefix(std::max<std::size_t>(end, 1));
      if (sentence_.empty()) continue;
      sampled_ += static_cast<i64>(sentence_.size());
      return;
    }
  }

  i64 sampled_bytes() const { return sampled_; }
  const ReadStats& stats() const { return reader_.stats(); }

 private:
  SampledLines(const TokenizerTraining& training, const std::vector<TextSource>& sources)
      : reader_(sources, training.text),
        random_(training.seed, RandomUse::tokenizer_sample),
        sample_bytes_(training.sample_bytes),
        progress_("reading", static_cast<double>(total_bytes(sources)), "B") {
    double text = 0;  // an estimate: packed text shrinks to about a third
    for (const TextSource& s : sources)
      text += static_cast<double>(s.bytes) * (s.compression == Compression::none ? 1 : 3);
    share_ = std::min(1.0, 1.02 * static_cast<double>(sample_bytes_) / std::max(text, 1.0));
    Next();
  }

  bool next_document() {
    progress_.update(static_cast<double>(reader_.packed_bytes_read()));
    if (!reader_.next(document_)) {
      progress_.finish();
      return false;
    }
    end_lines_at_marks(document_.text);
    rest_ = document_.text;
    return true;
  }

  std::size_t cut() const {
    return rest_.size() <= kLongestSentence ? rest_.size() : whole_characters(rest_.substr(0, kLongestSentence));
  }

  DocumentReader reader_;
  RandomStream random_;
  double share_ = 1;  // of the sentences to keep
  i64 sample_bytes_, sampled_ = 0;
  std::uint64_t sentence_number_ = 0;
  Document document_;
  std::string_view rest_;  // of document_ that was not given out yet
  std::string sentence_;
  Progress progress_;
};

// The number right after `marker` in what SentencePiece says, or "".
std::string number_after(const std::string& message, std::string_view marker) {
  const std::size_t at = message.find(marker);
  if (at == message.npos) return "";
  const std::size_t begin = at + marker.size();
  return message.substr(begin, message.find_first_not_of("0123456789", begin) - begin);
}

UserError training_failed(const std::string& message, i64 vocab_size, i64 sampled_bytes) {
  if (const std::string largest = number_after(message, "set it to a value <= "); !largest.empty())
    return user_error("--vocab-size {}: too large for {} bytes of text; the largest that works is {}", vocab_size,
                      sampled_bytes, largest);
  if (const std::string least = number_after(message, fmt::format("smaller than required_chars. {} vs ", vocab_size));
      !least.empty())
    return user_error("--vocab-size {}: too small; bytes and characters of this text alone need {}", vocab_size, least);
  return user_error("training the tokenizer failed: {}", message);
}

}  // namespace

std::string train_tokenizer(const TokenizerTraining& training) {
  constexpr i64 kOwnPieces = 4 + 256;  // end of a document, unknown, '\n', '\t'; bytes
  if (training.vocab_size <= kOwnPieces)
    throw user_error("--vocab-size {}: too small; marks and bytes alone are {} pieces", training.vocab_size,
                     kOwnPieces);
  SampledLines lines(training);
  if (lines.done()) {
    const std::string mended = mended_summary(lines.stats());
    throw user_error("{}: holds no text to learn a vocabulary from: {}", name_of_input(training.inputs.front()),
                     mended.empty() ? "nothing, or line ends, tabs and NULs alone" : mended);
  }
  std::string model;
  const auto status =
      sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                  {"vocab_size", std::to_string(training.vocab_size)},
                                                  {"byte_fallback", "true"},
                                                  {"normalization_rule_name", "identity"},
                                                  {"add_dummy_prefix", "false"},
                                                  {"remove_extra_whitespaces", "false"},
                                                  {"allow_whitespace_only_pieces", "true"},
                                                  {"user_defined_symbols", "\n,\t"},
                                                  {"eos_id", "0"},
                                                  {"eos_piece", "<|endoftext|>"},
                                                  {"unk_id", "1"},
                                                  {"bos_id", "-1"},
                                                  {"pad_id", "-1"},
                                                  {"max_sentence_length", std::to_string(kLongestSentence)},
                                                  {"minloglevel", "2"}},
                                                 &lines, &model);
  if (!status.ok()) throw training_failed(status.ToString(), training.vocab_size, lines.sampled_bytes());
  const std::string mended = mended_summary(lines.stats());
  if (!mended.empty()) log_warning("{}", mended);
  return model;
}

}  // namespace xlstm
