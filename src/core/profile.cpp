#include "core/profile.h"

namespace xlstm {

const char* name_of(OpClass c) {
  static constexpr const char* names[kOpClassCount] = {"other", "embedding", "norms", "projections", "gates",
                                                       "cell",  "ffn",       "head",  "optimizer",   "exchange"};
  return names[static_cast<int>(c)];
}

}  // namespace xlstm
