#include "train/stop_signal.h"

#include <atomic>
#include <csignal>
#include <cstddef>

#include "core/check.h"

namespace xlstm {

namespace {

std::atomic<int> last_signal = 0;  // the handler may run on any thread
std::atomic<int> scopes = 0;
static_assert(std::atomic<int>::is_always_lock_free);

// While one of oneDNN's matrix products runs, the stack pointer may stand at the beginning of its workspace on the
// heap: a handler that went on from there would overwrite what lies before it. So the handler has a stack of its own,
// in the thread that trains, which is the first thread and so the one that gets the signals of a process. AMX's
// registers make a signal's frame 11 KiB large.
alignas(64) std::byte handler_stack[1 << 16];
thread_local stack_t stack_before;

// A closed terminal may hang up twice, from the shell and from the system: only the other two end a run that saves.
void remember(int signal) {
  last_signal = signal;
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

bool is_ignored(int signal) {
  struct sigaction now = {};
  return sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

// Somebody may have put something else in its place meanwhile.
void take_back(int signal) {
  struct sigaction now = {};
  if (sigaction(signal, nullptr, &now) == 0 && now.sa_handler == remember) std::signal(signal, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  if (scopes++ > 0) return;
  last_signal = 0;
  const stack_t own{.ss_sp = handler_stack, .ss_flags = 0, .ss_size = sizeof handler_stack};
  XL_CHECK(sigaltstack(&own, &stack_before) == 0, "no stack for signals");
  has_stack_ = true;
  struct sigaction action = {};
  action.sa_handler = remember;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  if (!is_ignored(SIGHUP)) sigaction(SIGHUP, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

StopSignal::~StopSignal() {
  // Of ranks that are threads, another may be the last.
  if (has_stack_) sigaltstack(&stack_before, nullptr);
  if (--scopes > 0) return;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) take_back(signal);
}

const char* StopSignal::received() {
  const int signal = last_signal;
  if (signal == 0) return nullptr;
  switch (signal) {
    case SIGTERM: return "SIGTERM";
    case SIGHUP: return "SIGHUP";
    case SIGUSR1: return "SIGUSR1";
    default: return "SIGINT";
  }
}

}  // namespace xlstm
