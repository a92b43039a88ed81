#pragma once
// Tokens on their way from the loader to where the model reads them.
#include "core/context.h"
#include "data/loader.h"
#include "model/sequence.h"

namespace xlstm {

// A batch with fewer sequences is filled up with rows that are not scored.
void upload_batch(Context& ctx, const TokenRows& to, const TokenBatch& batch);

}  // namespace xlstm
