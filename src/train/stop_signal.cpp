#include "train/stop_signal.h"

#include <csignal>

namespace xlstm {

namespace {

volatile std::sig_atomic_t last_signal = 0;

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
  if (last_signal == 0) return nullptr;
  return last_signal == SIGTERM ? "SIGTERM" : "SIGINT";
}

}  // namespace xlstm
