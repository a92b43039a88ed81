#include "dist/library_limit.h"

#include <signal.h>
#include <unistd.h>

#include "core/log.h"
#include "dist/siblings.h"

namespace xlstm {

namespace {

sem_t rung;  // the only thing that a signal's handler may touch

}  // namespace

LibraryLimit::LibraryLimit(double seconds, std::string why, std::string otherwise)
    : why_(std::move(why)), otherwise_(std::move(otherwise)) {
  sem_init(&rung, /*pshared=*/0, 0);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  signal(SIGALRM, [](int) { sem_post(&rung); });
  alarm(seconds < 1 ? 1 : static_cast<unsigned>(seconds));
}

LibraryLimit::~LibraryLimit() {
  alarm(0);
  signal(SIGALRM, SIG_DFL);
  over_ = true;
  sem_post(&rung);
  thread_.join();
  sem_destroy(&rung);
}

// The first who speaks ends the job: where one is seen to hang, the first rank of that host; elsewhere they wait for
// it.
void LibraryLimit::watch() {
  constexpr useconds_t kTurn = 100'000, kElsewhere = 5'000'000;  // microseconds
  sem_wait(&rung);
  if (over_) return;
  const Siblings siblings = siblings_of_this_process();
  usleep(siblings.hanging.empty() ? kElsewhere : kTurn * static_cast<useconds_t>(siblings.before_this));
  if (over_) return;
  divert_log(nullptr);
  log_error("{}: {}; the job ends", why_, siblings.hanging.empty() ? otherwise_ : siblings.hanging);
  _exit(1);
}

}  // namespace xlstm
