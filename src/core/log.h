#pragma once
// Logs and progress go to stderr, results to stdout.
#include <functional>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/profile.h"
#include "core/tensor.h"

namespace xlstm {

enum class LogLevel { info, warning, error };

void log_line(LogLevel level, const std::string& message);

// From then on lines go there, and not to stderr; nullptr: to stderr again. For the ranks of a run (dist/rank_log.h).
void divert_log(std::function<void(LogLevel, const std::string&)> where);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

bool stderr_is_terminal();

// What a line of progress says.
struct ProgressText {
  std::string what;
  double share = -1;  // done, of 1; negative where the end is not known
  std::string amount, rate, time, note;
};
std::string plain_line(const ProgressText& p);
// With a bar, in so many columns: the bar shrinks, then rate, amount, note and time go, then `what` is cut.
std::string bar_line(const ProgressText& p, i64 columns);

// A bar with rate and time left on a terminal; a plain line every `plain_every` seconds otherwise. Log lines written
// while a bar stands are printed above it.
class Progress {
 public:
  Progress(std::string what, double total, std::string unit, double done_before = 0, double plain_every = 10);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(double done, std::string_view note = {});
  void add(double more) { update(done_ + more); }
  void finish(std::string_view note = {});  // leaves the last line standing

 private:
  friend void log_line(LogLevel, const std::string&);
  ProgressText text() const;
  void erase() const;
  void draw() const;

  std::string what_, unit_, note_;
  double total_, done_, start_done_, plain_every_, last_drawn_ = -1e9;
  Timer timer_;
  bool finished_ = false;
};

}  // namespace xlstm
