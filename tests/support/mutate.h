#pragma once
// Damaged copies of a file, the same ones in every run: what reads a file is fed with them, and must either refuse one
// with a UserError or read it to its end. The builds with sanitizers run these tests, too.
#include <string>
#include <vector>

#include "core/random.h"

namespace xlstm {

// Words that break parsers of numbers and of nested text.
inline const std::vector<std::string> kJsonWords = {"null", "-1",  "1e99", "99999999999999999999", "[]",  "{}",  "\"\"",
                                                    "true", "{\"", "[[[[", "9223372036854775807",  "\\u", "\xFF"};
inline const std::vector<std::string> kYamlWords = {": ", "- ", "&a", "*a", "!!", "{",  "}", "[",      "]",     "\t",
                                                    "#",  "|",  ">",  "'",  "\"", "\n", "~", "<<: *a", "1e999", "%"};

// One to four edits: a byte replaced, bits flipped, a stretch removed, repeated or replaced by a word, or all cut off.
inline std::string mutated(std::string text, const std::vector<std::string>& words, std::uint64_t round) {
  const RandomStream random(11, RandomUse::test, round);
  for (std::uint32_t edit = 0; edit <= random.bits(0) % 4; ++edit) {
    const std::uint64_t base = 10 + 4 * edit;
    const std::size_t at = text.empty() ? 0 : random.bits(base) % text.size();
    const std::size_t length = random.bits(base + 1) % 12, rest = text.size() - at;
    const std::uint32_t draw = random.bits(base + 3);
    switch (random.bits(base + 2) % 6) {
      case 0:
        if (!text.empty()) text[at] = static_cast<char>(draw);
        break;
      case 1:
        if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << draw % 8));
        break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(draw % (text.size() + 1), length)); break;
      case 4:
        if (!words.empty()) text.replace(at, std::min(length, rest), words[draw % words.size()]);
        break;
      case 5: text.resize(at); break;
    }
  }
  return text;
}

}  // namespace xlstm
