#include "train/stop_signal.h"

#include <atomic>
#include <csignal>

namespace xlstm {

namespace {

std::atomic<int> last_signal = 0;  // the handler may run on any thread
static_assert(std::atomic<int>::is_always_lock_free);

void remember(int signal) {
  last_signal = signal;
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  last_signal = 0;
  std::signal(SIGTERM, remember);
  std::signal(SIGINT, remember);
}

StopSignal::~StopSignal() {
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

const char* StopSignal::received() {
  const int signal = last_signal;
  if (signal == 0) return nullptr;
  return signal == SIGTERM ? "SIGTERM" : "SIGINT";
}

}  // namespace xlstm
