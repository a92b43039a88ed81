#pragma once
// How the commands of data sets describe one: for people as a row of a table, and as JSON.
#include "data/dataset_format.h"

namespace xlstm {

inline Json summary_of(const Manifest& m) {
  Json json = {{"documents", m.documents()},
               {"tokens", m.tokens()},
               {"text_bytes", m.text_bytes},
               {"text_bytes_per_token", static_cast<double>(m.text_bytes) / static_cast<double>(m.tokens())},
               {"shards", m.shards.size()},
               {"vocab_size", m.vocab_size},
               {"token_type", m.token_type() == TokenType::uint16 ? "uint16" : "uint32"},
               {"tokenizer_sha256", m.tokenizer_sha256},
               {"fingerprint", m.fingerprint()}};
  if (m.row_tokens > 0) json["packed"] = {{"rows", m.rows()}, {"row_tokens", m.row_tokens}, {"padding", m.padding()}};
  return json;
}

// Of a packed data set: "" for others.
inline std::string rows_of(const std::string& name, const Manifest& m) {
  if (m.row_tokens == 0) return "";
  return fmt::format("{}: packed into {} rows of {} tokens, {:.2f} % of them padding\n", name, m.rows(), m.row_tokens,
                     100 * m.padding());
}

inline std::string row_of(const std::string& name, const Manifest& m) {
  return fmt::format("{:<12} {:>12} {:>15} {:>15} {:>11.3f} {:>7}  {}\n", name, m.documents(), m.tokens(), m.text_bytes,
                     static_cast<double>(m.text_bytes) / static_cast<double>(m.tokens()), m.shards.size(),
                     m.fingerprint().substr(0, 16));
}

inline std::string table_head() {
  return fmt::format("{:<12} {:>12} {:>15} {:>15} {:>11} {:>7}  {}\n", "", "documents", "tokens", "text bytes",
                     "bytes/token", "shards", "fingerprint");
}

}  // namespace xlstm
