#pragma once
// The dialect as PTX. See dialect.h.
#include <cstdint>

#define XL_DEVICE __device__ __forceinline__
#define XL_KERNEL(threads, ctas_per_sm) __global__ void __launch_bounds__(threads, ctas_per_sm)
#define XL_UNROLL _Pragma("unroll")
#define XL_ROLLED _Pragma("unroll 1")

namespace xlstm::dialect {

extern __shared__ __align__(1024) unsigned char dynamic_shared[];

XL_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
XL_DEVICE int lane_index() { return static_cast<int>(threadIdx.x & 31u); }
XL_DEVICE int warp_index() { return static_cast<int>(threadIdx.x >> 5); }
XL_DEVICE uint3 block_index() { return blockIdx; }
XL_DEVICE void sync_cta() { __syncthreads(); }
XL_DEVICE void sync_warp() { __syncwarp(); }

XL_DEVICE std::uint32_t shared_begin() { return static_cast<std::uint32_t>(__cvta_generic_to_shared(dynamic_shared)); }

template <class T>
XL_DEVICE T shared_load(std::uint32_t address) {
  return *reinterpret_cast<const T*>(__cvta_shared_to_generic(address));
}
template <class T>
XL_DEVICE void shared_store(std::uint32_t address, const T& value) {
  *reinterpret_cast<T*>(__cvta_shared_to_generic(address)) = value;
}
template <class T>
XL_DEVICE T global_load(const T* p) {
  return *p;
}
template <class T>
XL_DEVICE void global_store(T* p, const T& value) {
  *p = value;
}

XL_DEVICE void copy_async_16(std::uint32_t shared, const void* global, std::uint32_t valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global), "r"(valid) : "memory");
}
XL_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int N>
XL_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

XL_DEVICE void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
XL_DEVICE void load_matrices_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
XL_DEVICE void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T>
XL_DEVICE T shuffle_xor(T x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
template <class T>
XL_DEVICE T shuffle_up(T x, int n) {
  return __shfl_up_sync(0xffffffffu, x, static_cast<unsigned>(n));
}
template <class T>
XL_DEVICE T shuffle_down(T x, int n) {
  return __shfl_down_sync(0xffffffffu, x, static_cast<unsigned>(n));
}
template <class T>
XL_DEVICE T shuffle_from(T x, int lane) {
  return __shfl_sync(0xffffffffu, x, lane);
}
XL_DEVICE std::uint32_t ballot(bool yes) { return __ballot_sync(0xffffffffu, yes); }

XL_DEVICE int count_bits(std::uint32_t x) { return __popc(x); }
XL_DEVICE int lowest_bit(std::uint32_t x) { return __ffs(static_cast<int>(x)) - 1; }

XL_DEVICE std::uint32_t pack_bf16(float lo, float hi) {
  std::uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
// Through f32: on sm_80 there is no product of two bf16, only a fused multiply-add, which is the same with -0.
XL_DEVICE std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t r;
  asm("{.reg .b32 c;\n mov.b32 c, 0x80008000U;\n fma.rn.bf16x2 %0, %1, %2, c;}\n" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
XL_DEVICE float low_half(std::uint32_t x) { return __uint_as_float(x << 16); }
XL_DEVICE float high_half(std::uint32_t x) { return __uint_as_float(x & 0xffff0000u); }
XL_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace xlstm::dialect
