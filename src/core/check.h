#pragma once
// The one way to fail. XL_CHECK is for what a programmer got wrong (exit 1, with file and line); UserError is for what
// a user can mend (exit 2, one line that names the file, key or offset, what was expected, and how to mend it).
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace xlstm {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Line ends and other control characters as a string literal has them: "\\n".
std::string one_line(std::string_view text);

// Names and values that users chose stand in messages: whatever they hold, the message is one line.
struct UserError : std::runtime_error {
  explicit UserError(const std::string& message) : std::runtime_error(one_line(message)) {}
};

// throw user_error("{}: expected {} tokens, found {}", path, want, have);
template <class... Args>
UserError user_error(fmt::format_string<Args...> format, Args&&... args) {
  return UserError(fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void throw_check_failed(const char* file, int line, const char* condition, const std::string& message);

}  // namespace xlstm

// XL_CHECK(rows > 0, "need at least one row, got {}", rows);
#define XL_CHECK(condition, ...)                                                               \
  do {                                                                                         \
    if (!(condition)) [[unlikely]]                                                             \
      ::xlstm::throw_check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (0)
