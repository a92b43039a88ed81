#include "dist/nccl.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>

#include "core/log.h"
#include "dist/watchdog.h"

namespace xlstm {

namespace {

constexpr double kSpin = 0.001;  // seconds that a call is waited for, before the core is left to others
constexpr int kNap = 200;        // microseconds

class NcclRanks final : public Communicator {
 public:
  NcclRanks(Communicator& host, std::unique_ptr<NcclCalls> calls) : host_(host), calls_(std::move(calls)) {
    std::string id;
    host_.together("NCCL", [&] { id = first() ? calls_->unique_id() : ""; });
    id = host_.gather_texts("NCCL", id)[0];
    host_.watch_device([this] { return look(); });
    try {
      call("start of NCCL", 0, [&] { calls_->init(id, rank(), size()); });
    } catch (...) {
      host_.watch_device({});
      throw;
    }
  }
  // All ranks end together; one that is on its way out alone gives the others up.
  ~NcclRanks() override {
    try {
      if (std::uncaught_exceptions() == 0) call("end of NCCL", 0, [&] { calls_->finalize(); });
    } catch (const std::exception& e) {
      log_warning("{}", e.what());
    }
    host_.watch_device({});
  }
  NcclRanks(const NcclRanks&) = delete;
  NcclRanks& operator=(const NcclRanks&) = delete;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  int local_rank() const override { return host_.local_rank(); }
  const std::string& host(int rank) const override { return host_.host(rank); }

  i64 begin(Context&, const Collective& c) override {
    i64 mark = 0;
    const auto mark_it = [&] {
      mark = calls_->mark();
      const std::lock_guard lock(mutex_);
      under_way_.push_back({mark, c.what, c.part});
    };
    call(
        c.what, c.part, [&] { start(c); }, mark_it);
    return mark;
  }

  void finish(Context&, i64 number) override {
    try {
      calls_->compute_after(number);
    } catch (const GpuError& e) {
      const std::lock_guard lock(mutex_);
      const auto it = std::find_if(under_way_.begin(), under_way_.end(), [&](auto& u) { return u.mark == number; });
      throw GpuError(failed(it == under_way_.end() ? UnderWay{} : *it, e.what()));
    }
  }

  void gather_bytes(const char* what, const void* mine, void* all, i64 bytes, Channel channel) override {
    host_.gather_bytes(what, mine, all, bytes, channel);
  }
  void configure(const Options& options) override { host_.configure(options); }
  void at_step(i64 step) override {
    step_ = step;
    host_.at_step(step);
  }
  void made_progress() override { host_.made_progress(); }
  std::unique_ptr<Communicator> on_device(Gpu&) override { return nullptr; }
  void begins(const char* what, i64 part) override { host_.begins(what, part); }
  void watch_device(std::function<DeviceWait()>) override {}
  i64 sent_bytes() const override { return sent_; }
  [[noreturn]] void abort(const std::string& why) override {
    host_.abort(why);
    std::abort();  // never comes here
  }
  void end() override { host_.end(); }

 private:
  // One call of the library, until it is settled. Meanwhile the watchdog is told of it, and leaves the library alone.
  void call(const char* what, i64 part, const std::function<void()>& work, const std::function<void()>& then = {}) {
    host_.begins(what, part);
    {
      const std::lock_guard lock(mutex_);
      now_ = {.what = what, .part = part, .number = -++calls_made_};
    }
    try {
      settle(work);
      if (then) then();
    } catch (const GpuError& e) {
      throw GpuError(failed({.what = what, .part = part}, e.what()));
    }
    const std::lock_guard lock(mutex_);
    now_ = {};
  }

  void settle(const std::function<void()>& work) {
    work();
    const Timer timer;
    while (!calls_->settled())
      if (timer.seconds() < kSpin)
        sched_yield();
      else
        usleep(kNap);
  }

  struct UnderWay {
    i64 mark = 0;
    const char* what = nullptr;
    i64 part = 0;
  };

  // The rank and its host stand before it where it is told (Communicator::abort).
  std::string failed(const UnderWay& u, const std::string& why) const {
    const std::string name = u.what ? fmt::format("'{}' failed", collective_name(u.what, u.part)) : "something failed";
    return fmt::format("step {}: {} on the GPU: {}", step_.load(), name, why);
  }

  void start(const Collective& c) {
    calls_->after_compute();
    switch (c.kind) {
      case Collective::Kind::exchange: exchange(c); break;
      case Collective::Kind::gather: gather(c); break;
      case Collective::Kind::sum:
        calls_->all_reduce(c.row);
        sent_ += 2 * c.row.bytes() * (size() - 1) / size();
        break;
    }
  }

  static i64 border(const Collective& c, int r) { return c.borders[static_cast<std::size_t>(r)]; }

  void send(const Tensor& row, int to) {
    if (row.cols == 0) return;
    calls_->send(row, to);
    sent_ += row.bytes();
  }
  void receive(const Tensor& row, int from) {
    if (row.cols > 0) calls_->receive(row, from);
  }

  void exchange(const Collective& c) {
    const i64 mine = border(c, rank() + 1) - border(c, rank());
    calls_->group_start();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      send(c.row.slice_cols(border(c, r), border(c, r + 1)), r);
      receive(c.received.slice_cols(r * mine, (r + 1) * mine), r);
    }
    calls_->group_end();
  }

  void gather(const Collective& c) {
    const Tensor own = c.row.slice_cols(border(c, rank()), border(c, rank() + 1));
    calls_->group_start();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      send(own, r);
      receive(c.row.slice_cols(border(c, r), border(c, r + 1)), r);
    }
    calls_->group_end();
  }

  // The watchdog's, from its thread.
  DeviceWait look() {
    const std::lock_guard lock(mutex_);
    if (now_.what) return now_;
    const std::string error = calls_->async_error();
    while (error.empty() && !under_way_.empty() && calls_->reached(under_way_.front().mark)) under_way_.pop_front();
    const UnderWay oldest = under_way_.empty() ? UnderWay{} : under_way_.front();
    if (!error.empty()) return {.error = failed(oldest, "NCCL: " + error)};
    return {.what = oldest.what, .part = oldest.part, .number = oldest.mark};
  }

  Communicator& host_;
  std::unique_ptr<NcclCalls> calls_;
  std::mutex mutex_;  // for what the watchdog's thread looks at
  std::deque<UnderWay> under_way_;
  DeviceWait now_;  // the call that is not settled
  std::atomic<i64> step_ = 0;
  i64 calls_made_ = 0, sent_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, std::unique_ptr<NcclCalls> calls) {
  return std::make_unique<NcclRanks>(host, std::move(calls));
}

#ifndef XLSTM_NCCL
std::string nccl_version() { return ""; }
std::string nccl_library_version() { return ""; }

void expect_nccl() {
  throw user_error(
      "several ranks on GPUs need NCCL, which this program was built without: install libnccl-dev (nccl.h) and "
      "libnccl2, and build again (scripts/build.sh cuda); or run one rank, or set run.device=cpu");
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Gpu&) {
  host.together("NCCL", expect_nccl);
  return nullptr;
}
#endif

}  // namespace xlstm
