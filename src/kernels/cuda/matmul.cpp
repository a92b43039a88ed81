// Matrix products by cuBLASLt. Rows of ours are columns of the library's: it is asked for C^T = op(B)^T op(A)^T.
//
// The algorithm of a product is the first that the library's heuristics name for it: the same for the same library and
// device, so a run repeats its bits. f32 is computed in f32, never in TF32; bf16 is accumulated in f32 throughout.
#include <algorithm>

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
ProductPlan make_plan(const CudaGpu& gpu, const ProductKey& key) {
  ProductPlan plan;
  check_cublas(cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan.b = layout(key.type_in, key.transpose_b ? key.k : key.n, key.transpose_b ? key.n : key.k, key.ldb);
  plan.a = layout(key.type_in, key.transpose_a ? key.m : key.k, key.transpose_a ? key.k : key.m, key.lda);
  plan.c = layout(key.type_out, key.n, key.m, key.ldc);
  plan.z = layout(key.type_out, key.n, key.m, key.ldz);

  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "preference");
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(Gpu::kWorkspaceBytes));
  // partial sums of a split K stay f32
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key.alignment_b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key.alignment_a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.alignment_z));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.alignment_c));
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(gpu.blas(), plan.operation, plan.b, plan.a, plan.z,
                                                               plan.c, preference, 1, &found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  check_cublas(status, "choosing an algorithm");
  XL_CHECK(count > 0, "no algorithm for M {}, N {}, K {}", key.m, key.n, key.k);
  plan.algorithm = found.algo;
  return plan;
}

// c = z + a b, or a b; z may be c.
void multiply(Context& ctx, Tensor c, Tensor z, Tensor a, Tensor b, MatmulFlags flags) {
  auto& gpu = static_cast<CudaGpu&>(*ctx.gpu);
  const bool plus_z = z.rows > 0;
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
                       .alignment_a = alignment_of(a.data),
                       .alignment_b = alignment_of(b.data),
                       .alignment_c = alignment_of(c.data),
                       .alignment_z = alignment_of(z.data)};
  if (ctx.profile) ctx.profile->add_flops(ctx.op_class, 2.0 * double(key.m) * double(key.n) * double(key.k));
  auto plan = gpu.plans.find(key);
  if (plan == gpu.plans.end()) plan = gpu.plans.emplace(key, make_plan(gpu, key)).first;
  const ProductPlan& p = plan->second;
  const float alpha = 1, beta = plus_z ? 1 : 0;
  check_cublas(cublasLtMatmul(gpu.blas(), p.operation, &alpha, b.data, p.b, a.data, p.a, &beta, z.data, p.z, c.data,
                              p.c, &p.algorithm, gpu.workspace, static_cast<std::size_t>(Gpu::kWorkspaceBytes),
                              static_cast<cudaStream_t>(gpu.stream())),
               "product");
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
