#pragma once
// A limit for calls of a library that waits for other processes while nobody watches: at the start, until all know of
// each other, and at the end, when the watchdog is gone. Behind it the process says why and ends (exit code 1).
#include <semaphore.h>

#include <atomic>
#include <string>
#include <thread>

namespace xlstm {

class LibraryLimit {
 public:
  // `why`: what goes before the ranks of this host that can be seen to hang (dist/siblings.h), or before `otherwise`
  // where none can. One limit at a time. SIGALRM is its end.
  LibraryLimit(double seconds, std::string why, std::string otherwise);
  ~LibraryLimit();
  LibraryLimit(const LibraryLimit&) = delete;
  LibraryLimit& operator=(const LibraryLimit&) = delete;

 private:
  void watch();

  std::string why_, otherwise_;
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace xlstm
