#include "tests/support/thread_ranks.h"

#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace xlstm {

namespace {

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Whose turn it is; a thread that is no rank's (a checkpoint's, say) has none to give.
class Baton {
 public:
  explicit Baton(Turns turns) : used_(turns == Turns::one_at_a_time) {}
  void take() {
    if (!used_) return;
    mutex_.lock();
    mine = true;
  }
  bool give() {
    if (!mine) return false;
    mine = false;
    mutex_.unlock();
    return true;
  }

 private:
  static thread_local bool mine;
  const bool used_;
  std::mutex mutex_;
};
thread_local bool Baton::mine = false;

// What the ranks have said for one collective: copies, taken when each began it.
struct Said {
  std::map<int, std::string> by_rank;
  int taken = 0;
};

class Hub {
 public:
  Hub(int size, Turns turns) : baton(turns), size_(size) {}
  Baton baton;
  int size() const { return size_; }

  void say(Channel channel, i64 number, int rank, std::string text) {
    const std::lock_guard lock(mutex_);
    said_[{channel, number}].by_rank[rank] = std::move(text);
    changed_.notify_all();
  }
  std::vector<std::string> hear(Channel channel, i64 number) {
    const bool had_turn = baton.give();
    std::vector<std::string> all = wait_for(channel, number);
    if (had_turn) baton.take();
    return all;
  }
  std::vector<std::string> wait_for(Channel channel, i64 number) {
    std::unique_lock lock(mutex_);
    Said& said = said_[{channel, number}];
    const auto complete = [&] { return static_cast<int>(said.by_rank.size()) == size_; };
    changed_.wait(lock, [&] { return broken_ || complete(); });
    if (!complete()) throw Broken("another rank has failed");
    std::vector<std::string> all;
    for (const auto& [rank, text] : said.by_rank) all.push_back(text);
    if (++said.taken == size_) said_.erase({channel, number});
    return all;
  }
  void fail() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }

 private:
  const int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<Channel, i64>, Said> said_;
  bool broken_ = false;
};

std::string bytes_of(Context& ctx, const Tensor& row, i64 begin, i64 end) {
  const Tensor part = row.slice_cols(begin, end);
  std::string bytes(static_cast<std::size_t>(part.bytes()), '\0');
  download(ctx, bytes.data(), part);
  return bytes;
}

void put(Context& ctx, const Tensor& row, i64 begin, const std::string& bytes) {
  const i64 elements = static_cast<i64>(bytes.size()) / size_of(row.dtype);
  upload(ctx, row.slice_cols(begin, begin + elements), bytes.data());
}

class ThreadRank final : public Communicator {
 public:
  ThreadRank(Hub& hub, int rank) : hub_(hub), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return hub_.size(); }
  int local_rank() const override { return 0; }  // all share one device
  const std::string& host(int) const override { return host_; }

  i64 begin(Context& ctx, const Collective& c) override {
    pending_[++begun_] = c;
    const bool piece = c.kind == Collective::Kind::gather;
    std::string mine = bytes_of(ctx, c.row, piece ? border(c, rank_) : 0, piece ? border(c, rank_ + 1) : c.row.cols);
    hub_.say(Channel::training, begun_, rank_, std::move(mine));
    return begun_;
  }

  void finish(Context& ctx, i64 number) override {
    if (number != pending_.begin()->first) throw std::logic_error("not the oldest");
    const Collective c = pending_.at(number);
    pending_.erase(number);
    const std::vector<std::string> all = hub_.hear(Channel::training, number);
    const i64 mine = c.borders.empty() ? 0 : border(c, rank_ + 1) - border(c, rank_);
    std::vector<float> sum(c.kind == Collective::Kind::sum ? static_cast<std::size_t>(c.row.cols) : 0);
    for (int r = 0; r < size(); ++r) {
      const std::string& said = all[static_cast<std::size_t>(r)];
      const i64 width = size_of(c.row.dtype);
      switch (c.kind) {
        case Collective::Kind::sum: add(sum, said); break;
        case Collective::Kind::gather:
          if (r != rank_) put(ctx, c.row, border(c, r), said);
          sent_ += r == rank_ ? 0 : mine * width;
          break;
        case Collective::Kind::exchange:
          if (r == rank_) break;
          put(ctx, c.received, r * mine,
              said.substr(static_cast<std::size_t>(border(c, rank_) * width), static_cast<std::size_t>(mine * width)));
          sent_ += (border(c, r + 1) - border(c, r)) * width;
          break;
      }
    }
    if (c.kind == Collective::Kind::sum) upload(ctx, c.row, sum.data());
  }

  void gather_bytes(const char*, const void* mine, void* all, i64 bytes, Channel channel) override {
    const i64 number = channel == Channel::training ? ++begun_ : ++saving_;
    hub_.say(channel, number, rank_, {static_cast<const char*>(mine), static_cast<std::size_t>(bytes)});
    const std::vector<std::string> heard = hub_.hear(channel, number);
    for (std::size_t r = 0; r < heard.size(); ++r)
      std::memcpy(static_cast<char*>(all) + r * static_cast<std::size_t>(bytes), heard[r].data(), heard[r].size());
  }

  void configure(const Options&) override {}
  void at_step(i64) override {}
  void made_progress() override {}
  std::unique_ptr<Communicator> on_device(Gpu&) override { return nullptr; }
  void begins(const char*, i64) override {}
  void watch_device(std::function<DeviceWait()> ask) override { ask_device_ = std::move(ask); }
  Communicator::DeviceWait ask_device() const { return ask_device_ ? ask_device_() : DeviceWait{}; }
  i64 sent_bytes() const override { return sent_; }
  [[noreturn]] void abort(const std::string& why) override { throw std::runtime_error(why); }
  void end() override {}

 private:
  static i64 border(const Collective& c, int r) { return c.borders[static_cast<std::size_t>(r)]; }
  static void add(std::vector<float>& sum, const std::string& said) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      float x = 0;
      std::memcpy(&x, said.data() + i * sizeof x, sizeof x);
      sum[i] += x;
    }
  }

  Hub& hub_;
  int rank_;
  std::string host_ = "thread";
  std::function<DeviceWait()> ask_device_;
  i64 begun_ = 0, saving_ = 0, sent_ = 0;
  std::map<i64, Collective> pending_;
};

}  // namespace

std::vector<std::string> run_ranks(int size, const std::function<void(Communicator&)>& body, Turns turns) {
  Hub hub(size, turns);
  std::vector<std::string> wrong(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      try {
        ThreadRank rank(hub, r);
        hub.baton.take();
        body(rank);
      } catch (const Broken&) {
      } catch (const std::exception& e) {
        wrong[static_cast<std::size_t>(r)] = e.what();
        if (!dynamic_cast<const SharedError*>(&e)) hub.fail();
      }
      hub.baton.give();
    });
  for (std::thread& t : threads) t.join();
  return wrong;
}

Communicator::DeviceWait ask_device(const Communicator& rank) {
  return dynamic_cast<const ThreadRank&>(rank).ask_device();
}

}  // namespace xlstm
