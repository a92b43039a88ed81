#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>

#include "core/text.h"

namespace xlstm {

namespace {

std::recursive_mutex terminal;  // one writer of the terminal's last line at a time
Progress* standing = nullptr;   // the bar that stands there now

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
  if (standing) standing->erase();
  switch (level) {
    case LogLevel::info: logger().info(message); break;
    case LogLevel::warning: logger().warn("warning: " + message); break;
    case LogLevel::error: logger().error("error: " + message); break;
  }
  if (standing) standing->draw();
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

std::string Progress::line() const {
  const double seconds = timer_.seconds();
  const double rate = seconds > 0 ? (done_ - start_done_) / seconds : 0;
  std::string out = what_ + "  ";
  if (total_ > 0) {
    const double share = std::clamp(done_ / total_, 0.0, 1.0);
    if (stderr_is_terminal()) {
      constexpr int kWidth = 24;
      const int full = static_cast<int>(share * kWidth);
      for (int i = 0; i < kWidth; ++i) out += i < full ? "█" : "░";
      out += ' ';
    }
    out += fmt::format("{:5.1f} %  ", 100 * share);
  }
  out += fmt::format("{}{}  {}{}/s", human_count(done_, "G"), unit_, human_count(rate, "G"), unit_);
  if (total_ > 0 && rate > 0 && !finished_) out += fmt::format("  {} left", human_duration((total_ - done_) / rate));
  if (finished_) out += fmt::format("  in {}", human_duration(seconds));
  if (!note_.empty()) out += "  " + note_;
  return out;
}

void Progress::erase() const { std::fputs("\r\033[K", stderr); }

void Progress::draw() const {
  std::fputs(("\r\033[K" + line()).c_str(), stderr);
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
    logger().info(line());
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
    logger().info(line());
  }
}

}  // namespace xlstm
