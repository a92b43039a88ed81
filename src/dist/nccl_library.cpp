#ifdef XLSTM_NCCL
// NCCL itself. The library is opened when it is needed, so that a run of one rank does without it.
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>

#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "dist/nccl.h"

namespace xlstm {

namespace {

void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess) throw GpuError(fmt::format("{}: {}", what, cudaGetErrorString(e)));
}

void* open_library() {
  void* handle = nullptr;
  for (const char* name : {"libnccl.so.2", "libnccl.so"})
    if (!handle) handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  return handle;
}

std::string text_of_version(int code) {  // 22809: 2.28.9
  return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

// The functions, by the types of the header.
struct Library {
  Library() {
    handle = open_library();
    if (!handle)
      throw user_error(
          "several ranks on GPUs need NCCL, and libnccl.so.2 is not found (install libnccl2, or name its "
          "folder in LD_LIBRARY_PATH)");
    load(get_unique_id, "ncclGetUniqueId");
    load(comm_init_rank, "ncclCommInitRankConfig");
    load(comm_finalize, "ncclCommFinalize");
    load(comm_abort, "ncclCommAbort");
    load(comm_destroy, "ncclCommDestroy");
    load(comm_get_async_error, "ncclCommGetAsyncError");
    load(get_error_string, "ncclGetErrorString");
    load(get_last_error, "ncclGetLastError");
    load(group_start, "ncclGroupStart");
    load(group_end, "ncclGroupEnd");
    load(send, "ncclSend");
    load(recv, "ncclRecv");
    load(all_reduce, "ncclAllReduce");
  }

  template <class F>
  void load(F& function, const char* name) const {
    function = reinterpret_cast<F>(dlsym(handle, name));
    if (!function) throw user_error("libnccl.so.2 has no {}; version 2.18 or newer is expected", name);
  }

  void* handle = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id{};
  decltype(&ncclCommInitRankConfig) comm_init_rank{};
  decltype(&ncclCommFinalize) comm_finalize{};
  decltype(&ncclCommAbort) comm_abort{};
  decltype(&ncclCommDestroy) comm_destroy{};
  decltype(&ncclCommGetAsyncError) comm_get_async_error{};
  decltype(&ncclGetErrorString) get_error_string{};
  decltype(&ncclGetLastError) get_last_error{};
  decltype(&ncclGroupStart) group_start{};
  decltype(&ncclGroupEnd) group_end{};
  decltype(&ncclSend) send{};
  decltype(&ncclRecv) recv{};
  decltype(&ncclAllReduce) all_reduce{};
};

ncclDataType_t type_of(DType t) {
  switch (t) {
    case DType::f32: return ncclFloat32;
    case DType::f64: return ncclFloat64;
    case DType::bf16: return ncclBfloat16;
    case DType::i32: return ncclInt32;
  }
  return ncclInt8;
}

class NcclLibrary final : public NcclCalls {
 public:
  explicit NcclLibrary(Gpu& gpu) : compute_(static_cast<cudaStream_t>(gpu.stream())) {
    check(cudaGetDevice(&device_), "cudaGetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t& e : events_) check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&computed_, cudaEventDisableTiming), "cudaEventCreate");
  }
  // A communicator that others may have left is given up, not asked to finish.
  ~NcclLibrary() override {
    if (comm_) library_.comm_abort(comm_);
    for (cudaEvent_t e : events_) cudaEventDestroy(e);
    cudaEventDestroy(computed_);
    cudaStreamDestroy(stream_);
  }
  NcclLibrary(const NcclLibrary&) = delete;
  NcclLibrary& operator=(const NcclLibrary&) = delete;

  std::string unique_id() override {
    ncclUniqueId id;
    check(library_.get_unique_id(&id), "ncclGetUniqueId");
    return {id.internal, sizeof id.internal};
  }
  void init(const std::string& text, int rank, int size) override {
    ncclUniqueId id{};
    std::memcpy(id.internal, text.data(), std::min(text.size(), sizeof id.internal));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(library_.comm_init_rank(&comm_, size, id, rank, &config), kInit);
    begun_ = kInit;
  }
  void finalize() override {
    check(library_.comm_finalize(comm_), kFinalize);
    begun_ = kFinalize;
  }
  bool settled() override {
    ncclResult_t state = ncclSuccess;
    check(library_.comm_get_async_error(comm_, &state), "ncclCommGetAsyncError");
    if (state == ncclInProgress) return false;
    check(state, begun_);
    if (begun_ == kFinalize) check(library_.comm_destroy(std::exchange(comm_, nullptr)), "ncclCommDestroy");
    return true;
  }

  void group_start() override { check(library_.group_start(), "ncclGroupStart"); }
  void send(const Tensor& row, int to) override {
    check(library_.send(row.data, static_cast<std::size_t>(row.cols), type_of(row.dtype), to, comm_, stream_),
          "ncclSend");
  }
  void receive(const Tensor& row, int from) override {
    check(library_.recv(row.data, static_cast<std::size_t>(row.cols), type_of(row.dtype), from, comm_, stream_),
          "ncclRecv");
  }
  void group_end() override {
    check(library_.group_end(), "ncclGroupEnd");
    begun_ = "ncclGroupEnd";
  }
  void all_reduce(const Tensor& row) override {
    begun_ = "ncclAllReduce";
    check(library_.all_reduce(row.data, row.data, static_cast<std::size_t>(row.cols), type_of(row.dtype), ncclSum,
                              comm_, stream_),
          "ncclAllReduce");
  }
  std::string async_error() override {
    if (!comm_) return "";
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = library_.comm_get_async_error(comm_, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) return "";
    return library_.get_error_string(state != ncclSuccess ? state : asked);
  }

  void after_compute() override {
    check(cudaEventRecord(computed_, compute_), "cudaEventRecord");
    check(cudaStreamWaitEvent(stream_, computed_, 0), "cudaStreamWaitEvent");
  }
  // Events go round: one that is used again has been waited for long ago.
  i64 mark() override {
    check(cudaEventRecord(event(marks_ + 1), stream_), "cudaEventRecord");
    return ++marks_;
  }
  void compute_after(i64 mark) override { check(cudaStreamWaitEvent(compute_, event(mark), 0), "cudaStreamWaitEvent"); }
  bool reached(i64 mark) override {
    cudaSetDevice(device_);
    return marks_ - mark >= static_cast<i64>(events_.size()) || cudaEventQuery(event(mark)) != cudaErrorNotReady;
  }

 private:
  static constexpr const char *kInit = "ncclCommInitRank (one GPU per rank is expected)",
                              *kFinalize = "ncclCommFinalize";

  void check(ncclResult_t r, const char* what) const {
    if (r == ncclSuccess || r == ncclInProgress) return;
    throw GpuError(fmt::format("{}: {} ({})", what, library_.get_error_string(r), library_.get_last_error(comm_)));
  }
  static void check(cudaError_t e, const char* what) { xlstm::check(e, what); }
  cudaEvent_t event(i64 mark) const { return events_[static_cast<std::size_t>(mark) % events_.size()]; }

  Library library_;
  cudaStream_t compute_, stream_ = nullptr;
  int device_ = 0;
  ncclComm_t comm_ = nullptr;
  const char* begun_ = "";  // what settled() is asked about
  std::vector<cudaEvent_t> events_ = std::vector<cudaEvent_t>(4096);
  cudaEvent_t computed_ = nullptr;
  std::atomic<i64> marks_ = 0;
};

}  // namespace

std::string nccl_version() { return text_of_version(NCCL_VERSION_CODE); }

std::string nccl_library_version() {
  void* handle = open_library();
  if (!handle) return "";
  const auto ask = reinterpret_cast<decltype(&ncclGetVersion)>(dlsym(handle, "ncclGetVersion"));
  int code = 0;
  return ask && ask(&code) == ncclSuccess ? text_of_version(code) : "";
}

void expect_nccl() { const Library library; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Gpu& gpu) {
  std::unique_ptr<NcclCalls> calls;
  host.together("NCCL", [&] { calls = std::make_unique<NcclLibrary>(gpu); });
  return make_nccl_communicator(host, std::move(calls));
}

}  // namespace xlstm
#endif
