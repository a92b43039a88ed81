// The handler of the signals that stop a run writes nothing below the stack pointer of whoever it interrupts.
#include "train/stop_signal.h"

#include <gtest/gtest.h>
#include <ucontext.h>

#include <algorithm>
#include <csignal>
#include <vector>

namespace xlstm {
namespace {

int signal_to_raise = 0;

// Bytes that raise() takes of a stack of its own, with everything that is written below it on the way.
std::ptrdiff_t stack_taken_by_raise(int signal) {
  std::vector<char> memory(1 << 17, '\x5a');
  signal_to_raise = signal;
  ucontext_t here, there;
  getcontext(&there);
  there.uc_stack.ss_sp = memory.data();
  there.uc_stack.ss_size = memory.size();
  there.uc_link = &here;
  makecontext(
      &there, [] { std::raise(signal_to_raise); }, 0);
  swapcontext(&here, &there);
  const auto touched = std::find_if(memory.begin(), memory.end(), [](char c) { return c != '\x5a'; });
  return memory.end() - touched;
}

TEST(StopSignal, TheHandlerHasAStackOfItsOwn) {
  std::signal(SIGUSR2, SIG_IGN);
  stack_taken_by_raise(SIGUSR2);  // the first call also looks raise() up
  const std::ptrdiff_t without_handler = stack_taken_by_raise(SIGUSR2);
  std::signal(SIGUSR2, SIG_DFL);
  std::signal(SIGHUP, SIG_DFL);  // the tests themselves may run under nohup
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const StopSignal scope;
    ASSERT_EQ(StopSignal::received(), nullptr);
    EXPECT_EQ(stack_taken_by_raise(signal), without_handler);
    EXPECT_STREQ(StopSignal::received(), signal == SIGTERM ? "SIGTERM" : signal == SIGINT ? "SIGINT" : "SIGHUP");
  }
}

TEST(StopSignal, WhatCameBeforeAnInnerOneIsNotForgotten) {
  const StopSignal outer;
  std::raise(SIGTERM);
  { const StopSignal inner; }
  EXPECT_STREQ(StopSignal::received(), "SIGTERM");
  std::raise(SIGUSR1);  // is still listened to
  EXPECT_STREQ(StopSignal::received(), "SIGUSR1");
}

TEST(StopSignal, AHangUpThatNohupIgnoresIsIgnored) {
  std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignal scope;
    std::raise(SIGHUP);
    EXPECT_EQ(StopSignal::received(), nullptr);
  }
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

// A terminal that closes may send two.
TEST(StopSignal, ASecondHangUpEndsNothing) {
  std::signal(SIGHUP, SIG_DFL);
  const StopSignal scope;
  std::raise(SIGHUP);
  std::raise(SIGHUP);
  std::raise(SIGPIPE);
  EXPECT_STREQ(StopSignal::received(), "SIGHUP");
}

}  // namespace
}  // namespace xlstm
