// Matrix products by cuBLASLt. Rows of ours are columns of the library's: it is asked for C^T = op(B)^T op(A)^T.
//
// The algorithm of a product is the first that the library's heuristics name for it, or the fastest of several
// (Gpu::time_products). f32 is computed in f32, never in TF32; bf16 is accumulated in f32 throughout; where the library
// splits K, partial sums are f32 and are added in a fixed order.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/log.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace xlstm::gpu {

namespace {

cudaDataType_t type_of(DType t) { return t == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

int alignment_of(const std::byte* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return static_cast<int>(std::min<std::uintptr_t>(address & (~address + 1), 256));
}

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value), "attribute");
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "preference");
}

cublasLtMatrixLayout_t layout(int type, i64 rows, i64 cols, i64 stride) {
  cublasLtMatrixLayout_t out = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&out, static_cast<cudaDataType_t>(type), static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(cols), stride),
               "layout");
  return out;
}

// In the library's words: its first operand is our b.
ProductPlan make_plan(const ProductKey& key) {
  ProductPlan plan;
  check_cublas(cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan.b = layout(key.type_in, key.transpose_b ? key.k : key.n, key.transpose_b ? key.n : key.k, key.ldb);
  plan.a = layout(key.type_in, key.transpose_a ? key.m : key.k, key.transpose_a ? key.k : key.m, key.lda);
  plan.c = layout(key.type_out, key.n, key.m, key.ldc);
  plan.z = layout(key.type_out, key.n, key.m, key.ldz);
  return plan;
}

template <class T>
T configured(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value{};
  std::size_t written = 0;
  check_cublas(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value, sizeof value, &written),
               "attribute of an algorithm");
  return value;
}

ProductProposal describe(const cublasLtMatmulAlgo_t& algorithm) {
  return {to_hex(&algorithm, sizeof algorithm),
          fmt::format("algorithm {}, tile {}, stages {}, split K {}",
                      configured<std::int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_ID),
                      configured<std::uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID),
                      configured<std::uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID),
                      configured<std::int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM))};
}

// In the order of the library's heuristics.
std::vector<ProductProposal> propose(const CudaGpu& gpu, const ProductKey& key, const ProductPlan& plan) {
  constexpr int kMost = 8;
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "preference");
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(Gpu::kWorkspaceBytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key.alignment_b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key.alignment_a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.alignment_z));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.alignment_c));
  std::array<cublasLtMatmulHeuristicResult_t, kMost> found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(gpu.blas(), plan.operation, plan.b, plan.a, plan.z,
                                                               plan.c, preference, kMost, found.data(), &count);
  cublasLtMatmulPreferenceDestroy(preference);
  check_cublas(status, "choosing an algorithm");
  std::vector<ProductProposal> proposals;
  for (int i = 0; i < count; ++i) {
    const auto& one = found[static_cast<std::size_t>(i)];
    if (one.state != CUBLAS_STATUS_SUCCESS) continue;
    const auto scheme = configured<std::uint32_t>(one.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
    if (scheme == CUBLASLT_REDUCTION_SCHEME_NONE || scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
      proposals.push_back(describe(one.algo));
  }
  XL_CHECK(!proposals.empty(), "no algorithm for M {}, N {}, K {}", key.m, key.n, key.k);
  return proposals;
}

struct Operands {
  const void *a, *b, *z;
  void* c;
};

cublasStatus_t start(const CudaGpu& gpu, const ProductPlan& p, const cublasLtMatmulAlgo_t& algorithm, bool plus_z,
                     const Operands& on) {
  const float alpha = 1, beta = plus_z ? 1 : 0;
  return cublasLtMatmul(gpu.blas(), p.operation, &alpha, on.b, p.b, on.a, p.a, &beta, on.z, p.z, on.c, p.c, &algorithm,
                        gpu.workspace, static_cast<std::size_t>(Gpu::kWorkspaceBytes),
                        static_cast<cudaStream_t>(gpu.stream()));
}

cublasLtMatmulAlgo_t algorithm_of(const ProductProposal& proposal) {
  cublasLtMatmulAlgo_t algorithm{};
  XL_CHECK(from_hex(proposal.algorithm, &algorithm, sizeof algorithm), "'{}' is no algorithm", proposal.algorithm);
  return algorithm;
}

// Device memory for as long as products are tried out; none where there is none left.
class TrialMemory {
 public:
  TrialMemory(CudaGpu& gpu, i64 bytes) : gpu_(gpu) {
    try {
      data_ = gpu.allocate(bytes);
    } catch (const UserError&) {
      data_ = nullptr;
    }
  }
  ~TrialMemory() {
    if (data_) gpu_.release(data_);
  }
  TrialMemory(const TrialMemory&) = delete;
  TrialMemory& operator=(const TrialMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  CudaGpu& gpu_;
  std::byte* data_;
};

// Into c itself, which the product then overwrites anyhow; sums that go on in c are tried out beside it.
ProductChoice time_proposals(CudaGpu& gpu, const ProductKey& key, const ProductPlan& plan, Operands on,
                             std::vector<ProductProposal> proposals) {
  constexpr int kRuns = 2;  // in one timing: the way to the device counts less
  std::optional<TrialMemory> memory;
  if (key.in_place) {
    memory.emplace(gpu, key.m * key.ldc * (key.type_out == CUDA_R_16BF ? 2 : 4));
    if (!memory->data()) return {.taken = 0, .proposals = std::move(proposals)};
    on.c = memory->data();
  }
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  algorithms.reserve(proposals.size());
  for (const ProductProposal& p : proposals) algorithms.push_back(algorithm_of(p));
  return choose_fastest(std::move(proposals), [&](std::size_t i) {
    bool works = true;
    const double seconds = gpu.seconds_of([&] {
      for (int run = 0; run < kRuns; ++run)
        works = works && start(gpu, plan, algorithms[i], key.plus_z, on) == CUBLAS_STATUS_SUCCESS;
    });
    return works ? seconds / kRuns : INFINITY;
  });
}

// A choice of an earlier process; it has to be one that the library still takes.
bool still_works(const CudaGpu& gpu, const ProductPlan& p, const ProductProposal& proposal) {
  cublasLtMatmulAlgo_t algorithm{};
  cublasLtMatmulHeuristicResult_t result{};
  return from_hex(proposal.algorithm, &algorithm, sizeof algorithm) &&
         cublasLtMatmulAlgoCheck(gpu.blas(), p.operation, p.b, p.a, p.z, p.c, &algorithm, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<std::size_t>(Gpu::kWorkspaceBytes);
}

cublasLtMatmulAlgo_t choose(CudaGpu& gpu, const ProductKey& key, const ProductPlan& plan, const Operands& on) {
  if (!gpu.products().timed) return algorithm_of(propose(gpu, key, plan).front());
  const ProductChoice* choice = gpu.products().choices.find(key);
  if (choice && !still_works(gpu, plan, choice->algorithm())) {
    log_warning("the algorithm that this run had for M {}, N {}, K {} is refused now; it is chosen anew", key.m, key.n,
                key.k);
    choice = nullptr;
  }
  if (!choice) {
    std::vector<ProductProposal> proposals = propose(gpu, key, plan);
    ProductChoice made = gpu.recording() ? ProductChoice{.taken = 0, .proposals = std::move(proposals)}
                                         : time_proposals(gpu, key, plan, on, std::move(proposals));
    choice = &gpu.products().choices.add(key, std::move(made));
    gpu.products().changed = true;
  }
  return algorithm_of(choice->algorithm());
}

// c = z + a b, or a b; z may be c.
void multiply(Context& ctx, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  auto& gpu = static_cast<CudaGpu&>(*ctx.gpu);
  const bool plus_z = z.rows > 0;
  if (c.size() == 0) return;
  if (!plus_z) z = c;
  const ProductKey key{.m = c.rows,
                       .n = c.cols,
                       .k = flags.transpose_a ? a.rows : a.cols,
                       .lda = a.row_stride,
                       .ldb = b.row_stride,
                       .ldc = c.row_stride,
                       .ldz = z.row_stride,
                       .type_in = type_of(a.dtype),
                       .type_out = type_of(c.dtype),
                       .transpose_a = flags.transpose_a,
                       .transpose_b = flags.transpose_b,
                       .plus_z = plus_z,
                       .in_place = plus_z && z.data == c.data,
                       .alignment_a = alignment_of(a.data),
                       .alignment_b = alignment_of(b.data),
                       .alignment_c = alignment_of(c.data),
                       .alignment_z = alignment_of(z.data)};
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 2.0 * double(key.m) * double(key.n) * double(key.k));
  const Operands on{.a = a.data, .b = b.data, .z = z.data, .c = c.data};
  auto& plans = gpu.products().plans;
  auto plan = plans.find(key);
  if (plan == plans.end()) {
    ProductPlan made = make_plan(key);
    made.algorithm = choose(gpu, key, made, on);
    plan = plans.emplace(key, made).first;
  }
  check_cublas(start(gpu, plan->second, plan->second.algorithm, plus_z, on), "product");
}

}  // namespace

void matmul(Context& ctx, Tensor c, Tensor a, Tensor b, MatmulFlags flags) {
  check_product(c, a, b, flags);
  multiply(ctx, c, flags.accumulate ? c : Tensor{}, a, b, flags);
}

void matmul_add(Context& ctx, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  check_sum(c, z, a, b, flags);
  multiply(ctx, c, z, a, b, flags);
}

}  // namespace xlstm::gpu
