#include "core/check.h"

namespace xlstm {

void throw_check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(fmt::format("{}:{}: {}: {}", file, line, condition, message));
}

}  // namespace xlstm
