#pragma once
// Collectives on the GPUs' own memory, one GPU per rank, over NCCL; everything else (texts, checkpoints, the watchdog)
// stays with the ranks' host communicator, which also brings the GPUs together.
#include "dist/communicator.h"

namespace xlstm {

// What is called of NCCL and of the CUDA runtime, in a second stream beside the one that computes. Tests have one of
// threads on host memory. Every member throws GpuError for what the library reports. None waits for other ranks: what
// init, finalize, a group's end or a sum have begun goes on by itself, connecting to others included, and until it is
// settled nothing else may be called, a mark included (NCCL: ncclConfig_t::blocking = 0).
class NcclCalls {
 public:
  virtual ~NcclCalls() = default;
  virtual std::string unique_id() = 0;  // drawn by rank 0
  virtual void init(const std::string& id, int rank, int size) = 0;
  virtual void finalize() = 0;  // nothing is called after it
  virtual bool settled() = 0;   // whether what was begun is through

  virtual void group_start() = 0;
  virtual void send(const Tensor& row, int to) = 0;
  virtual void receive(const Tensor& row, int from) = 0;
  virtual void group_end() = 0;
  virtual void all_reduce(const Tensor& row) = 0;  // in place; f32
  virtual std::string async_error() = 0;           // "" while all is well; from any thread, while settled

  // The order of the two streams. What is called next comes after all that was computed so far;
  virtual void after_compute() = 0;
  // a place behind what was called so far, numbers from 1;
  virtual i64 mark() = 0;
  // what is computed next comes after that place;
  virtual void compute_after(i64 mark) = 0;
  // whether it has been reached; from any thread.
  virtual bool reached(i64 mark) = 0;
};

// Bytes of a GPU that a plan leaves to NCCL for its buffers; rounded up from what users report, not measured here. An
// H100 among eight has lost 4.3 GB behind its first all-to-all, which is what an exchange is (NVIDIA/nccl#1685: 32
// channels with 12 MiB for each GPU of the host), 1.1 GB of it before, of which 512 MiB are for other hosts (#2363).
constexpr i64 nccl_bytes(int ranks) {
  constexpr i64 kOfAll = i64{1} << 30, kOfEachOther = i64{1} << 29;
  constexpr int kGpusOfHost = 8;  // that have channels of their own
  return ranks == 1 ? 0 : kOfAll + kOfEachOther * ((ranks < kGpusOfHost ? ranks : kGpusOfHost) - 1);
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, std::unique_ptr<NcclCalls> calls);

// With the library itself, found when it is needed (libnccl.so.2). UserError in a build without, or where it is not.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Gpu& gpu);

}  // namespace xlstm
