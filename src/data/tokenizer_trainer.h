#pragma once
// Learning a vocabulary from raw text.
#include "data/text_reader.h"

namespace xlstm {

struct TokenizerTraining {
  std::vector<std::string> inputs;  // files, folders, "-"
  i64 vocab_size = 32000;
  i64 sample_bytes = i64{64} << 20;  // of text to learn from; more text is sampled by line (stdin: its beginning)
  TextOptions text = {};
  std::uint64_t seed = 0;  // of the sample
};

// A SentencePiece model file (BPE, byte fallback, lossless): id 0 is the end-of-document piece "<|endoftext|>", id 1 is
// unknown (never produced), then '\n', '\t', the 256 bytes, and what was learnt. The same input gives the same bytes.
// UserError when the text is missing, or too small for the vocabulary (says the largest size that works), or the
// vocabulary too small for the bytes and characters (says the smallest).
std::string train_tokenizer(const TokenizerTraining& training);

}  // namespace xlstm
