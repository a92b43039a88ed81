#pragma once
// Who keeps the others waiting. Every rank says about twice a second where it is (a beat); rank 0 knows all beats, and
// tells everybody of the one that is furthest behind. When a collective lasts too long, the watchdog names the rank
// that has not come to it, and the job ends. Pure bookkeeping with the time handed in: the messages are dist/mpi.cpp's.
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace xlstm {

// "gradients 3", "losses": as lines of log name it.
std::string collective_name(const char* what, i64 part);

// Where a rank is. Sent as it lies in memory.
struct Beat {
  i64 step = 0;
  i64 begun = 0;                // collectives of training, so far
  i64 saving = 0;               // and of saving
  i64 progress = 0;             // grows while it works on what takes long
  std::array<char, 48> what{};  // the last collective that it began

  void name(const char* collective, i64 part);
};

class Watchdog {
 public:
  // `hosts`: the names of all ranks' hosts. A rank that waits longer than its limit speaks: rank 0, who knows most, a
  // little before the others.
  Watchdog(int rank, std::vector<std::string> hosts, double now);
  static constexpr double kStart = 120;  // seconds, before a config is known: nothing takes long until then
  void set_timeout(double seconds) { timeout_ = seconds; }
  double limit() const { return (rank_ == 0 ? 0.7 : 0.8) * timeout_; }
  double silence() const {
    return timeout_ < 40 ? timeout_ / 4 : 10;
  }  // of one who beats twice a second: that long is odd

  // This rank's own.
  Beat mine;
  void waits(std::size_t channel, const char* what, i64 part, i64 number, double now);  // begins. Channels: 0 to 2
  void stops_waiting(std::size_t channel);
  // Bytes that came, say: waiting begins anew.
  void progressed(std::size_t channel, double now);

  // What rank 0 hears of others, and what others hear of rank 0: its own beat, and whom it finds furthest behind.
  void heard(int rank, const Beat& beat, double now);
  struct Behind {
    int rank = -1;
    bool heard = false;  // of it, ever
    double silent = 0;   // seconds since its last beat
    double unmoved = 0;  // seconds since that last one told something new
    Beat beat;
  };
  Behind furthest_behind(double now) const;
  void told(const Behind& behind, double now) { told_ = behind, told_at_ = now; }

  // Why the job must end now, or nothing. `hurry`: this rank was told to stop.
  std::optional<std::string> verdict(double now, bool hurry) const;

 private:
  struct Waiting {
    bool now = false;
    std::string what;
    double since = 0;
    i64 number = 0;
  };
  struct Heard {
    Beat beat;
    double at = 0, moved = 0;
    bool ever = false;
  };
  Behind suspect(double now) const;
  std::string blame(const Waiting& w, const Behind& b, double now) const;

  int rank_;
  std::vector<std::string> hosts_;
  double timeout_ = kStart;
  std::array<Waiting, 3> waiting_;
  std::vector<Heard> heard_;
  Behind told_;
  double told_at_;
};

}  // namespace xlstm
