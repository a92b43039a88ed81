#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "core/log.h"
#include "dist/communicator.h"

namespace xlstm {

namespace {

class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  const std::string& host(int) const override { return host_; }
  i64 begin(Context&, const Collective&) override { return 0; }
  void finish(Context&, i64) override {}
  void gather_bytes(const char*, const void* mine, void* all, i64 bytes, Channel) override {
    std::memcpy(all, mine, static_cast<std::size_t>(bytes));
  }
  void configure(const Options&) override {}
  void at_step(i64) override {}
  void made_progress() override {}
  std::unique_ptr<Communicator> on_device(Gpu&) override { return nullptr; }
  void begins(const char*, i64) override {}
  void watch_device(std::function<DeviceWait()>) override {}
  i64 sent_bytes() const override { return 0; }
  [[noreturn]] void abort(const std::string& why) override {
    log_error("{}", why);
    _exit(1);
  }
  void end() override {}

 private:
  std::string host_ = "this host";
};

}  // namespace

std::unique_ptr<Communicator> make_single_process_communicator() { return std::make_unique<SingleProcess>(); }

}  // namespace xlstm
