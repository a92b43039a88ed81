#pragma once
// UTF-8 as it really comes: what is invalid is found, counted and replaced, one U+FFFD for each maximal ill-formed
// piece (Unicode 15, section 3.9, the practice that browsers follow too).
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace xlstm {

// What stands at the start of `text` (not empty): a character, a piece that no character begins with, or the
// beginning of a character that the end of the text cuts off.
struct Utf8Step {
  enum class Kind { valid, invalid, cut_off } kind;
  std::size_t bytes;
};
Utf8Step utf8_step(std::string_view text);

// Byte offset of the first ill-formed piece, or npos.
std::size_t find_invalid_utf8(std::string_view text);

// The text with U+FFFD for every ill-formed piece; `replaced` grows by their number.
std::string repair_utf8(std::string_view text, i64& replaced);

// Length of the longest prefix that does not end inside a character.
std::size_t whole_characters(std::string_view text);

}  // namespace xlstm
