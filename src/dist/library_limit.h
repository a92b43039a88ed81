#pragma once
// A limit for calls of a library that waits for other processes while nobody watches: at the start, until all know of
// each other, and at the end, when the watchdog is gone. Behind it the process says why and ends (exit code 1).
#include <signal.h>
#include <unistd.h>

#include <string_view>

namespace xlstm {

class LibraryLimit {
 public:
  // `line`: static, with its line end. One at a time.
  LibraryLimit(double seconds, std::string_view line) {
    why() = line;
    signal(SIGALRM, [](int) {
      static_cast<void>(!write(STDERR_FILENO, why().data(), why().size()));
      _exit(1);
    });
    alarm(seconds < 1 ? 1 : static_cast<unsigned>(seconds));
  }
  ~LibraryLimit() {
    alarm(0);
    signal(SIGALRM, SIG_DFL);
  }
  LibraryLimit(const LibraryLimit&) = delete;
  LibraryLimit& operator=(const LibraryLimit&) = delete;

 private:
  static std::string_view& why() {
    static std::string_view line;
    return line;
  }
};

}  // namespace xlstm
