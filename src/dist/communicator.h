#pragma once
// The ranks of one run: what they say to each other. Virtual because a step makes a handful of these calls; ops, of
// which it makes thousands, are not.
//
// Every rank makes the same calls in the same order, and all may count on it: a rank that does not come, or that dies,
// ends the whole job within parallel.timeout, with a line that names it (dist/watchdog.h).
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/context.h"

namespace xlstm {

// One collective over a row in the memory that the run computes in: (1, n), cut into a piece per rank by `borders`
// (size + 1 of them, ascending; they outlive the call).
struct Collective {
  enum class Kind : std::uint8_t {
    exchange,  // received, (size, my piece): row q is what rank q has in my piece. My own row is left as it is
    gather,    // afterwards each piece of `row` is what the rank has that it belongs to
    sum,       // afterwards `row` is the sum over ranks, added in whatever order the library likes; f32
  };
  Kind kind;
  const char* what;  // for the line that tells who did not come: "gradients"
  i64 part = 0;      // of them
  Tensor row;
  Tensor received{};
  std::span<const i64> borders{};
};

// Who talks. Calls of one channel are ordered among each other only, so that a checkpoint can be written while training
// goes on; a channel belongs to one thread at a time.
enum class Channel : std::uint8_t { training, saving };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;                   // among the ranks of this host
  virtual const std::string& host(int rank) const = 0;  // its name

  // begin() returns at once: the collective sees all that was computed through `ctx` before, and its memory belongs to
  // it until finish() of its number; whatever is computed through `ctx` after that sees the result. Begun collectives
  // are finished in their order.
  virtual i64 begin(Context& ctx, const Collective& c) = 0;
  virtual void finish(Context& ctx, i64 number) = 0;

  // `bytes` of host memory from every rank, in the order of ranks, to every rank.
  virtual void gather_bytes(const char* what, const void* mine, void* all, i64 bytes,
                            Channel channel = Channel::training) = 0;

  struct Options {
    double timeout = 600;                  // seconds; parallel.timeout
    std::function<bool()> told_to_stop{};  // a signal has come: then a rank that is silent is not waited for long
  };
  virtual void configure(const Options& options) = 0;
  virtual void at_step(i64 step) = 0;  // where this rank is, for the line that tells of it
  virtual void made_progress() = 0;    // a rank that others wait for is at work: called from within long work

  // The same ranks, for collectives on tensors of that device; nullptr where these can do it themselves.
  virtual std::unique_ptr<Communicator> on_device(Gpu& gpu) = 0;
  virtual void expect_on_device() {}  // UserError where that could not be had: before anything is made

  // For that one: it tells what it begins, and is asked now and then about the oldest that is not done.
  struct DeviceWait {
    std::string error{};  // not empty: the job ends; with the step and the collective
    const char* what = nullptr;
    i64 part = 0, number = 0;
  };
  virtual void begins(const char* what, i64 part) = 0;
  virtual void watch_device(std::function<DeviceWait()> ask) = 0;  // empty: no more

  // What this rank has sent to others for begun collectives, as the algorithm has it.
  virtual i64 sent_bytes() const = 0;

  // Ends the whole job. Says why.
  [[noreturn]] virtual void abort(const std::string& why) = 0;

  // The regular end, of every rank. A rank that goes without it takes the job with it.
  virtual void end() = 0;

  bool first() const { return rank() == 0; }
  int on_this_host() const;  // ranks, this one included
  std::string name(int rank) const { return fmt::format("rank {} ({})", rank, host(rank)); }
  std::vector<std::string> gather_texts(const char* what, const std::string& mine, Channel channel = Channel::training);
  void barrier(const char* what, Channel channel = Channel::training);

  // Does `work` on every rank. When it throws UserError on some, all throw the first one's, with its rank before it
  // unless all say the same.
  void together(const char* what, const std::function<void()>& work, Channel channel = Channel::training);
};

// What several ranks throw together: rank 0 alone tells it.
struct SharedError : UserError {
  using UserError::UserError;
};

// One process: every call is trivial.
std::unique_ptr<Communicator> make_single_process_communicator();

// The ranks of mpirun or srun, or one process. UserError when this process is one of several and the program was built
// without MPI, or when the launcher does not tell the processes of each other: N copies would train the same model
// into the same folder.
std::unique_ptr<Communicator> make_communicator();

// UserError when this process is one of several: for commands that would all do the same, into the same files.
void expect_one_process(const std::string& command);

std::string mpi_version();  // of the library; "" in a build without

// NCCL that this program was built with, "2.28.9", and what is found where it runs; "" for none. UserError when several
// ranks could not share GPUs: what is missing, and how to get it.
std::string nccl_version();
std::string nccl_library_version();
void expect_nccl();

}  // namespace xlstm
