#ifdef XLSTM_MPI
// Every collective is a nonblocking one of the library. Whoever waits moves them on, and a thread does meanwhile: it
// makes the exchange go on beside the computation, says where this rank is, and watches. One lock around the library.
#include "dist/mpi.h"

#define OMPI_SKIP_MPICXX 1  // the library's C++ names, which it has given up
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <thread>

#include "core/log.h"
#include "dist/library_limit.h"
#include "dist/nccl.h"
#include "dist/watchdog.h"

namespace xlstm {

namespace {

constexpr double kBeat = 0.5;       // seconds
constexpr double kSpin = 0.001;     // of a wait, before it leaves the core to others
constexpr int kNap = 50;            // microseconds
constexpr std::size_t kDevice = 2;  // the watchdog's name for what goes on there, beside the two channels

int as_int(i64 n) {
  XL_CHECK(n <= std::numeric_limits<int>::max(), "{} elements are more than MPI counts", n);
  return static_cast<int>(n);
}

MPI_Datatype type_of(DType t) {
  switch (t) {
    case DType::f32: return MPI_FLOAT;
    case DType::f64: return MPI_DOUBLE;
    case DType::bf16: return MPI_UINT16_T;
    case DType::i32: return MPI_INT32_T;
  }
  return MPI_BYTE;
}

// The library keeps pointers to the counts until the collective is done.
struct UnderWay {
  i64 number = 0;
  const char* what = "";
  i64 part = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  std::vector<int> send_counts, send_places, counts, places;
};

// What rank 0 answers a beat with.
struct Told {
  Beat own;
  Watchdog::Behind behind;
};

// Of one other rank: for rank 0 everybody's, otherwise rank 0's.
struct Line {
  Beat beat_out, beat_in;
  Told told_out, told_in;
  MPI_Request out = MPI_REQUEST_NULL, in = MPI_REQUEST_NULL;
};

class MpiRanks final : public Communicator {
 public:
  MpiRanks() {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
    if (provided < MPI_THREAD_SERIALIZED)
      throw user_error("this MPI library takes calls from one thread only; Open MPI 3 or newer is expected");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    for (MPI_Comm& c : channels_) MPI_Comm_dup(MPI_COMM_WORLD, &c);
    MPI_Comm_dup(MPI_COMM_WORLD, &beats_);
    find_hosts();
    watchdog_ = std::make_unique<Watchdog>(rank_, hosts_, timer_.seconds());
    lines_.resize(static_cast<std::size_t>(size_));
    if (size_ > 1) start_thread();
  }

  ~MpiRanks() override {
    if (!ended_) abort("ended before the others");
    stop_thread();
    for (Line& line : lines_) {
      if (line.in == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&line.in);
      MPI_Wait(&line.in, MPI_STATUS_IGNORE);
    }
    const LibraryLimit limit(watchdog_->limit(), "all work is done, but not all ranks of this run end",
                             "one, or its host, hangs");
    MPI_Finalize();
  }
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  const std::string& host(int rank) const override { return hosts_[static_cast<std::size_t>(rank)]; }

  i64 begin(Context&, const Collective& c) override {
    XL_CHECK(c.row.device == Device::cpu && c.row.rows == 1, "a row in host memory is expected");
    const std::lock_guard lock(library_);
    UnderWay& op = under_way_.emplace_back();
    op.number = ++watchdog_->mine.begun;
    op.what = c.what;
    op.part = c.part;
    watchdog_->mine.name(c.what, c.part);
    start(op, c);
    moved_.notify_one();
    return op.number;
  }

  void finish(Context&, i64 number) override {
    std::unique_lock lock(library_);
    XL_CHECK(!under_way_.empty() && under_way_.front().number == number, "collective {} is not the oldest", number);
    UnderWay& op = under_way_.front();
    wait(lock, Channel::training, op.what, op.part, op.number, op.request);
    under_way_.pop_front();
  }

  void gather_bytes(const char* what, const void* mine, void* all, i64 bytes, Channel channel) override {
    std::unique_lock lock(library_);
    Beat& me = watchdog_->mine;
    const i64 number = channel == Channel::training ? ++me.begun : ++me.saving;
    if (channel == Channel::training) me.name(what, 0);
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Iallgather(mine, as_int(bytes), MPI_BYTE, all, as_int(bytes), MPI_BYTE, comm(channel), &request);
    wait(lock, channel, what, 0, number, request);
  }

  void configure(const Options& options) override {
    const std::lock_guard lock(library_);
    watchdog_->set_timeout(options.timeout);
    told_to_stop_ = options.told_to_stop;
  }

  void at_step(i64 step) override {
    const std::lock_guard lock(library_);
    watchdog_->mine.step = step;
  }

  void made_progress() override { ++progress_; }

  void expect_on_device() override { expect_nccl(); }
  std::unique_ptr<Communicator> on_device(Gpu& gpu) override { return make_nccl_communicator(*this, gpu); }
  void begins(const char* what, i64 part) override {
    const std::lock_guard lock(library_);
    ++watchdog_->mine.begun;
    watchdog_->mine.name(what, part);
  }
  void watch_device(std::function<DeviceWait()> ask) override {
    const std::lock_guard lock(library_);
    ask_device_ = std::move(ask);
    if (!ask_device_) watchdog_->stops_waiting(kDevice);
  }

  i64 sent_bytes() const override { return sent_bytes_; }

  // A library that hangs itself must not keep the process.
  [[noreturn]] void abort(const std::string& why) override {
    divert_log(nullptr);
    log_error("{}: {}", name(rank_), why);
    signal(SIGALRM, SIG_DFL);
    alarm(5);
    MPI_Abort(MPI_COMM_WORLD, 1);
    _exit(1);
  }

  void end() override {
    if (size_ > 1) barrier("end");
    ended_ = true;
  }

 private:
  MPI_Comm comm(Channel channel) const { return channels_[static_cast<std::size_t>(channel)]; }

  void find_hosts() {
    char own[256] = {};
    gethostname(own, sizeof own - 1);
    std::vector<char> all(sizeof own * static_cast<std::size_t>(size_));
    MPI_Allgather(own, sizeof own, MPI_CHAR, all.data(), sizeof own, MPI_CHAR, MPI_COMM_WORLD);
    for (int r = 0; r < size_; ++r) hosts_.emplace_back(all.data() + static_cast<std::size_t>(r) * sizeof own);
    MPI_Comm local = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local);
    MPI_Comm_rank(local, &local_rank_);
    MPI_Comm_free(&local);
  }

  void start(UnderWay& op, const Collective& c) {
    const MPI_Datatype type = type_of(c.row.dtype);
    const i64 width = size_of(c.row.dtype);
    MPI_Comm const training = comm(Channel::training);
    if (c.kind == Collective::Kind::sum) {
      XL_CHECK(c.row.dtype == DType::f32, "sums of f32 only");
      MPI_Iallreduce(MPI_IN_PLACE, c.row.data, as_int(c.row.cols), MPI_FLOAT, MPI_SUM, training, &op.request);
      sent_bytes_ += 2 * c.row.bytes() * (size_ - 1) / size_;
      return;
    }
    const auto me = static_cast<std::size_t>(rank_);
    const i64 mine = c.borders[me + 1] - c.borders[me], first = c.borders[0];
    std::byte* const data = c.row.data + first * width;  // places are the library's ints: counted from there
    for (std::size_t r = 0; r < static_cast<std::size_t>(size_); ++r) {
      const i64 piece = c.borders[r + 1] - c.borders[r];
      const bool other = r != me;
      if (c.kind == Collective::Kind::gather) {
        op.counts.push_back(as_int(piece));
        op.places.push_back(as_int(c.borders[r] - first));
        sent_bytes_ += other ? mine * width : 0;
        continue;
      }
      op.send_counts.push_back(other ? as_int(piece) : 0);
      op.send_places.push_back(as_int(c.borders[r] - first));
      op.counts.push_back(other ? as_int(mine) : 0);
      op.places.push_back(as_int(static_cast<i64>(r) * mine));
      sent_bytes_ += other ? piece * width : 0;
    }
    if (c.kind == Collective::Kind::gather)
      MPI_Iallgatherv(MPI_IN_PLACE, 0, type, data, op.counts.data(), op.places.data(), type, training, &op.request);
    else
      MPI_Ialltoallv(data, op.send_counts.data(), op.send_places.data(), type, c.received.data, op.counts.data(),
                     op.places.data(), type, training, &op.request);
  }

  void wait(std::unique_lock<std::mutex>& lock, Channel channel, const char* what, i64 part, i64 number,
            MPI_Request& request) {
    const auto c = static_cast<std::size_t>(channel);
    const auto done = [&] {
      int yes = 0;
      MPI_Test(&request, &yes, MPI_STATUS_IGNORE);
      return yes != 0;
    };
    if (done()) return;
    watchdog_->waits(c, what, part, number, timer_.seconds());
    ++waiting_;
    for (const double begin = timer_.seconds(); !done();) {
      lock.unlock();
      pause(channel, timer_.seconds() - begin);
      lock.lock();
    }
    --waiting_;
    watchdog_->stops_waiting(c);
  }

  // More ranks than cores, or another program on them: whoever waits long may keep those from the core that it waits
  // for.
  static void pause(Channel channel, double waited) {
    if (channel == Channel::saving)
      usleep(1000);
    else if (waited < kSpin)
      sched_yield();
    else
      usleep(kNap);
  }

  // Signals are the main thread's.
  void start_thread() {
    if (rank_ == 0)
      for (int r = 1; r < size_; ++r) listen(r);
    else
      listen(0);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void stop_thread() {
    {
      const std::lock_guard lock(library_);
      stop_ = true;
    }
    moved_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  void serve() {
    constexpr auto kRest = std::chrono::milliseconds(50);
    std::unique_lock lock(library_);
    for (double next_beat = 0; !stop_;) {
      for (UnderWay& op : under_way_) {
        int yes = 0;
        if (op.request != MPI_REQUEST_NULL) MPI_Test(&op.request, &yes, MPI_STATUS_IGNORE);
        if (yes) watchdog_->progressed(0, timer_.seconds());
      }
      if (const double now = timer_.seconds(); now >= next_beat) {
        next_beat = now + kBeat / 2;
        beat(now);
        look_at_device(now);
        if (const auto why = watchdog_->verdict(now, told_to_stop_ && told_to_stop_())) abort(*why);
      }
      // Whoever waits moves things on faster.
      const bool at_work = waiting_ == 0 && !under_way_.empty() && under_way_.back().request != MPI_REQUEST_NULL;
      if (at_work) {
        lock.unlock();
        usleep(kNap);
        lock.lock();
      } else {
        moved_.wait_for(lock, kRest);
      }
    }
  }

  void look_at_device(double now) {
    if (!ask_device_) return;
    const DeviceWait w = ask_device_();
    if (!w.error.empty()) abort(w.error + "; the job ends");
    if (!w.what) return watchdog_->stops_waiting(kDevice);
    if (w.number == device_number_) return;
    device_number_ = w.number;
    watchdog_->waits(kDevice, w.what, w.part, w.number, now);
  }

  static bool done(MPI_Request& request) {
    int yes = 1;
    if (request != MPI_REQUEST_NULL) MPI_Test(&request, &yes, MPI_STATUS_IGNORE);
    return yes != 0;
  }

  void listen(int from) {
    Line& line = lines_[static_cast<std::size_t>(from)];
    if (rank_ == 0)
      MPI_Irecv(&line.beat_in, sizeof line.beat_in, MPI_BYTE, from, 0, beats_, &line.in);
    else
      MPI_Irecv(&line.told_in, sizeof line.told_in, MPI_BYTE, from, 0, beats_, &line.in);
  }

  void beat(double now) {
    watchdog_->mine.progress = progress_;
    if (rank_ == 0) {
      for (int r = 1; r < size_; ++r) answer(r, now);
      return;
    }
    Line& line = lines_[0];
    if (done(line.in)) {
      watchdog_->heard(0, line.told_in.own, now);
      watchdog_->told(line.told_in.behind, now);
      listen(0);
    }
    if (!done(line.out)) return;
    line.beat_out = watchdog_->mine;
    MPI_Isend(&line.beat_out, sizeof line.beat_out, MPI_BYTE, 0, 0, beats_, &line.out);
  }

  void answer(int r, double now) {
    Line& line = lines_[static_cast<std::size_t>(r)];
    if (!done(line.in)) return;
    watchdog_->heard(r, line.beat_in, now);
    listen(r);
    if (!done(line.out)) return;
    line.told_out = {watchdog_->mine, watchdog_->furthest_behind(now)};
    MPI_Isend(&line.told_out, sizeof line.told_out, MPI_BYTE, r, 0, beats_, &line.out);
  }

  int rank_ = 0, size_ = 1, local_rank_ = 0;
  std::vector<std::string> hosts_;
  MPI_Comm channels_[2] = {MPI_COMM_NULL, MPI_COMM_NULL}, beats_ = MPI_COMM_NULL;
  Timer timer_;
  std::mutex library_;  // held for every call of the library, and for what follows
  std::condition_variable moved_;
  std::unique_ptr<Watchdog> watchdog_;
  std::deque<UnderWay> under_way_;
  std::vector<Line> lines_;
  std::function<bool()> told_to_stop_;
  std::function<DeviceWait()> ask_device_;
  i64 device_number_ = 0;  // that was last seen waiting
  int waiting_ = 0;
  bool stop_ = false, ended_ = false;
  std::atomic<i64> progress_ = 0, sent_bytes_ = 0;
  std::thread thread_;
};

}  // namespace

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return std::string(text, static_cast<std::size_t>(length)).substr(0, std::string_view(text).find(','));
}

std::unique_ptr<Communicator> make_mpi_communicator() { return std::make_unique<MpiRanks>(); }

}  // namespace xlstm
#endif
