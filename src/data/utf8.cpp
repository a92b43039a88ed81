#include "data/utf8.h"

#include <simdjson.h>

#include <algorithm>

namespace xlstm {

namespace {

struct Lead {
  std::size_t bytes;                     // of the whole character; 0 = no character begins so
  unsigned char second_min, second_max;  // the second byte is what rules out overlong forms and surrogates
};

Lead lead_of(unsigned char c) {
  if (c < 0x80) return {1, 0, 0};
  if (c < 0xC2) return {0, 0, 0};
  if (c < 0xE0) return {2, 0x80, 0xBF};
  if (c < 0xF0)
    return {3, static_cast<unsigned char>(c == 0xE0 ? 0xA0 : 0x80),
            static_cast<unsigned char>(c == 0xED ? 0x9F : 0xBF)};
  if (c < 0xF5)
    return {4, static_cast<unsigned char>(c == 0xF0 ? 0x90 : 0x80),
            static_cast<unsigned char>(c == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

}  // namespace

Utf8Step utf8_step(std::string_view text) {
  using Kind = Utf8Step::Kind;
  const Lead lead = lead_of(static_cast<unsigned char>(text[0]));
  if (lead.bytes == 0) return {Kind::invalid, 1};
  for (std::size_t i = 1; i < lead.bytes; ++i) {
    if (i == text.size()) return {Kind::cut_off, i};
    const auto c = static_cast<unsigned char>(text[i]);
    const bool fits = i == 1 ? lead.second_min <= c && c <= lead.second_max : 0x80 <= c && c <= 0xBF;
    if (!fits) return {Kind::invalid, i};
  }
  return {Kind::valid, lead.bytes};
}

namespace {

// Bytes before the first ill-formed piece. It reads no further than that, so that a text of many takes linear time.
std::size_t valid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = utf8_step(text.substr(at));
    if (step.kind != Utf8Step::Kind::valid) break;
    at += step.bytes;
  }
  return at;
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  return simdjson::validate_utf8(text) ? std::string_view::npos : valid_prefix(text);
}

std::string repair_utf8(std::string_view text, i64& replaced) {
  std::string out;
  out.reserve(text.size() + 16);
  std::size_t good = std::min(find_invalid_utf8(text), text.size());  // end of what is valid from the last bad piece on
  for (;;) {
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) return out;
    out += "\uFFFD";
    ++replaced;
    text.remove_prefix(utf8_step(text).bytes);
    good = valid_prefix(text);
  }
}

std::size_t whole_characters(std::string_view text) {
  const std::size_t tail = std::min<std::size_t>(text.size(), 3);
  for (std::size_t back = 1; back <= tail; ++back) {
    const std::string_view rest = text.substr(text.size() - back);
    if ((static_cast<unsigned char>(rest[0]) & 0xC0) == 0x80) continue;  // not the first byte of a character
    return utf8_step(rest).kind == Utf8Step::Kind::cut_off ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace xlstm
