#pragma once
#include "core/file.h"

namespace xlstm {

// A safetensors file by which another program's logits can be checked: `ids` [n] i32, drawn from the vocabulary, and
// `logits` [n, V] f32, what the model of that checkpoint gives after each of them, in one pass, on the CPU in f32.
void write_check_logits(const fs::path& checkpoint, const fs::path& out, i64 tokens);

}  // namespace xlstm
