#include "core/check.h"

namespace xlstm {

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n')
      line += "\\n";
    else if (c == '\t')
      line += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      line += fmt::format("\\x{:02x}", c);
    else
      line += c;
  }
  return line;
}

void throw_check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(fmt::format("{}:{}: {}: {}", file, line, condition, message));
}

}  // namespace xlstm
