#pragma once
#include <string>
#include <vector>

#include "core/file.h"

namespace xlstm {

// So many texts of the newest checkpoint of a run, each from the beginning of a document; the same ones for the same
// weights. Empty, with a warning, where the run has no checkpoint yet or no text.
std::vector<std::string> draw_samples(const fs::path& run, i64 count, i64 tokens);

}  // namespace xlstm
