#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>

#include "core/text.h"

namespace xlstm {

namespace {

std::recursive_mutex terminal;  // one writer of the terminal's last line at a time
Progress* standing = nullptr;   // the bar that stands there now
std::function<void(LogLevel, const std::string&)> diverted;

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = spdlog::stderr_color_mt("xlstm");
    made->set_pattern("%^%v%$");
    return made;
  }();
  return *instance;
}

}  // namespace

bool stderr_is_terminal() {
  static const bool terminal_there = isatty(STDERR_FILENO) == 1;
  return terminal_there;
}

void log_line(LogLevel level, const std::string& message) {
  const std::lock_guard lock(terminal);
  if (diverted) return diverted(level, message);
  if (standing) standing->erase();
  switch (level) {
    case LogLevel::info: logger().info(message); break;
    case LogLevel::warning: logger().warn("warning: " + message); break;
    case LogLevel::error: logger().error("error: " + message); break;
  }
  if (standing) standing->draw();
}

void divert_log(std::function<void(LogLevel, const std::string&)> where) {
  const std::lock_guard lock(terminal);
  diverted = std::move(where);
}

namespace {

// In the order of the line; empty ones are left out.
using Parts = std::array<std::string, 5>;
enum : std::size_t { kShare, kAmount, kRate, kTime, kNote };

Parts parts_of(const ProgressText& p) {
  return {p.share >= 0 ? fmt::format("{:5.1f} %", 100 * p.share) : "", p.amount, p.rate, p.time, p.note};
}

std::string joined(const Parts& parts) {
  std::string line;
  for (const std::string& part : parts)
    if (!part.empty()) line += "  " + part;
  return line;
}

// The line must end before the last column: the cursor stays in it.
i64 columns_of_stderr() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string plain_line(const ProgressText& p) { return p.what + joined(parts_of(p)); }

std::string bar_line(const ProgressText& p, i64 columns) {
  constexpr i64 kGap = 2, kStep = 8, kSteps = 3;  // a bar has 8, 16 or 24 cells, so that it rarely changes its width
  const i64 least_bar = p.share >= 0 ? kGap + kStep : 0;
  const i64 least_what = std::min(columns_of(p.what), columns / 3);
  Parts parts = parts_of(p);
  for (const std::size_t spare : {kRate, kAmount, kNote, kTime})
    if (least_what + least_bar + columns_of(joined(parts)) > columns) parts[spare].clear();

  const std::string rest = joined(parts);
  std::string line = cut_to_columns(p.what, columns - least_bar - columns_of(rest));
  if (p.share >= 0) {
    const i64 room = columns - columns_of(line) - kGap - columns_of(rest);
    const i64 cells = std::clamp<i64>(room / kStep, 1, kSteps) * kStep;
    const i64 full = static_cast<i64>(p.share * static_cast<double>(cells));
    line += "  ";
    for (i64 i = 0; i < cells; ++i) line += i < full ? "█" : "░";
  }
  return cut_to_columns(line + rest, columns);
}

Progress::Progress(std::string what, double total, std::string unit, double done_before, double plain_every)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      done_(done_before),
      start_done_(done_before),
      plain_every_(plain_every) {
  const std::lock_guard lock(terminal);
  if (stderr_is_terminal() && !standing) standing = this;
}

Progress::~Progress() {
  const std::lock_guard lock(terminal);
  if (standing == this) {
    if (!finished_) erase();
    standing = nullptr;
  }
}

ProgressText Progress::text() const {
  const double seconds = timer_.seconds();
  const double rate = seconds > 0 ? (done_ - start_done_) / seconds : 0;
  ProgressText p{.what = what_,
                 .share = total_ > 0 ? std::clamp(done_ / total_, 0.0, 1.0) : -1,
                 .amount = human_count(done_, "G") + unit_,
                 .rate = fmt::format("{}{}/s", human_count(rate, "G"), unit_),
                 .time = "",
                 .note = note_};
  if (total_ > 0 && rate > 0) p.time = human_duration((total_ - done_) / rate) + " left";
  if (finished_) p.time = "in " + human_duration(seconds);
  return p;
}

void Progress::erase() const { std::fputs("\r\033[K", stderr); }

void Progress::draw() const {
  std::fputs(("\r\033[K" + bar_line(text(), columns_of_stderr() - 1)).c_str(), stderr);
  std::fflush(stderr);
}

void Progress::update(double done, std::string_view note) {
  const std::lock_guard lock(terminal);
  done_ = done;
  if (!note.empty()) note_ = note;
  const double now = timer_.seconds();
  if (standing == this) {
    if (now - last_drawn_ < 0.1) return;
    draw();
    last_drawn_ = now;
  } else if (!stderr_is_terminal() && now - std::max(last_drawn_, 0.0) >= plain_every_) {
    log_line(LogLevel::info, plain_line(text()));
    last_drawn_ = now;
  }
}

void Progress::finish(std::string_view note) {
  const std::lock_guard lock(terminal);
  if (!note.empty()) note_ = note;
  finished_ = true;
  if (standing == this) {
    draw();
    std::fputc('\n', stderr);
    standing = nullptr;
  } else {
    log_line(LogLevel::info, plain_line(text()));
  }
}

}  // namespace xlstm
