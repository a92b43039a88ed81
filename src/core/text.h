#pragma once
// Small helpers for what people read: sizes, durations, and "did you mean".
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace xlstm {

std::string human_bytes(i64 bytes);                                // "1.5 GiB"
std::string human_count(double count, const char* billion = "B");  // "1.42 B", "406.9 M", "12.3 k", "340", "0.42"
std::string counted(i64 count, std::string_view one);              // "1 thread", "2 threads"
std::string human_duration(double seconds);                        // "2 h 05 min", "3 min 20 s", "4.1 s"

// Columns of a terminal that valid UTF-8 takes, at most: Chinese, Japanese, Korean, emoji and all else from U+3000 on
// count two.
i64 columns_of(std::string_view text);
std::string cut_to_columns(std::string_view text, i64 columns);  // ends in "…" where something is cut off

std::size_t edit_distance(std::string_view a, std::string_view b);  // inserted, removed and replaced characters

// The only candidate that begins so; else the one with the smallest edit distance, or "" when none is near enough to be
// a typing error.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);
std::string did_you_mean(std::string_view word,
                         const std::vector<std::string>& candidates);  // "; did you mean 'x'?" or ""

}  // namespace xlstm
