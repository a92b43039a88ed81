#include "dist/rank_log.h"

#include <mutex>
#include <sstream>

#include "core/log.h"

namespace xlstm {

namespace {

std::mutex queue;
std::string lines;  // "w..." and "e...", each with its end of line

std::string take() {
  const std::lock_guard lock(queue);
  return std::exchange(lines, "");
}

void tell(const std::string& who, const std::string& all) {
  std::istringstream in(all);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) log_line(line[0] == 'e' ? LogLevel::error : LogLevel::warning, who + ": " + line.substr(1));
}

}  // namespace

RankLog::RankLog(Communicator& ranks) : ranks_(ranks) {
  if (ranks.first()) return;
  divert_log([](LogLevel level, const std::string& message) {
    if (level == LogLevel::info) return;
    const std::lock_guard lock(queue);
    lines += (level == LogLevel::error ? 'e' : 'w') + message.substr(0, message.find('\n')) + '\n';
  });
}

RankLog::~RankLog() {
  if (ranks_.first()) return;
  divert_log(nullptr);
  tell(ranks_.name(ranks_.rank()), take());
}

bool RankLog::waiting() {
  const std::lock_guard lock(queue);
  return !lines.empty();
}

void RankLog::pass_on(Communicator& ranks) {
  const std::vector<std::string> all = ranks.gather_texts("warnings", take());
  if (!ranks.first()) return;
  for (std::size_t r = 0; r < all.size(); ++r) tell(ranks.name(static_cast<int>(r)), all[r]);
}

}  // namespace xlstm
