#pragma once
// NCCL as threads on host memory: the same calls, with the order of streams kept as loosely as the real one may. What
// is sent is taken when it is sent; what is received lands only when the computing stream is made to wait for it.
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>

#include "dist/nccl.h"

namespace xlstm {

// What lies between the ranks.
struct FakeWire {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::string>> sent;  // from, to
  std::map<std::string, int> came;                              // ranks that have called init, their first group, ...
};

class FakeNccl final : public NcclCalls {
 public:
  explicit FakeNccl(FakeWire& wire) : wire_(wire) {}

  std::string unique_id() override { return "the id"; }
  void init(const std::string& id, int rank, int size) override;
  void finalize() override { begin("finalize"); }
  bool settled() override;
  void group_start() override;
  void send(const Tensor& row, int to) override;
  void receive(const Tensor& row, int from) override;
  void group_end() override;
  void all_reduce(const Tensor& row) override;
  std::string async_error() override { return error; }
  void after_compute() override { ordered_ = true; }
  i64 mark() override;
  void compute_after(i64 mark) override;
  bool reached(i64 mark) override { return mark <= landed_; }

  std::string error;                      // what async_error() says
  std::string fails;                      // what a sum and a wait for a mark throw from then on
  std::function<void()> while_unsettled;  // whenever somebody asks too early

 private:
  void expect_well() const {
    if (!fails.empty()) throw GpuError(fails);
  }
  void begin(const std::string& what);  // settled when all ranks have come
  void expect_settled() const { XL_CHECK(begun_.empty(), "called while '{}' is not settled", begun_); }

  struct Landing {
    Tensor row;
    int from;  // -1: from everybody, to be added up
    i64 mark;
  };
  void put(const Tensor& row, int to);
  std::string take(int from);
  void land(const Landing& l);

  FakeWire& wire_;
  int rank_ = -1, size_ = 0;
  std::string begun_;
  bool connected_ = false;  // a first collective finds the others
  bool ordered_ = false, grouped_ = false;
  i64 marks_ = 0, landed_ = 0;
  std::deque<Landing> landings_;
};

}  // namespace xlstm
