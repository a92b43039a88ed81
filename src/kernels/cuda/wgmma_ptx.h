#pragma once
// wgmma.mma_async.m64nNk16, bf16 operands, f32 accumulators, for the widths that kernels use. Inline assembly can
// neither loop nor name its operands: macros spell the registers out.
#include <cstdint>

// clang-format off
#define XL_C4(c, i) "+f"((c)[i]), "+f"((c)[(i) + 1]), "+f"((c)[(i) + 2]), "+f"((c)[(i) + 3])
#define XL_C16(c, i) XL_C4(c, i), XL_C4(c, (i) + 4), XL_C4(c, (i) + 8), XL_C4(c, (i) + 12)
#define XL_C32(c, i) XL_C16(c, i), XL_C16(c, (i) + 16)
#define XL_R0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define XL_R16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define XL_R32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define XL_R48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define XL_R64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define XL_R80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define XL_R96 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define XL_R112 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define XL_R32_TO_35 "%32, %33, %34, %35"

#define XL_COMMA ,

// Behind n and its accumulators (operands, then their names): the numbers of the operands that follow.
#define XL_WGMMA(n, outputs, names, a0, a1, a2, a3, b, keep, transpose)                                           \
  template <bool kTransposeB>                                                                                     \
  XL_DEVICE void wgmma(float (&c)[(n) / 2], const std::uint32_t (&a)[4], std::uint64_t descriptor, bool accumulate) { \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #keep ", 0;\n"                                              \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" names "}, "                         \
                 "{%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", p, 1, 1, %" #transpose ";\n}\n"              \
                 : outputs                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor), "r"(static_cast<int>(accumulate)), \
                   "n"(kTransposeB ? 1 : 0));                                                                     \
  }
#define XL_WGMMA_SHARED(n, outputs, names, a, b, keep, transpose_a, transpose_b)                                  \
  template <bool kTransposeA, bool kTransposeB>                                                                   \
  XL_DEVICE void wgmma_shared(float (&c)[(n) / 2], std::uint64_t left, std::uint64_t right, bool accumulate) {    \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #keep ", 0;\n"                                              \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" names "}, "                         \
                 "%" #a ", %" #b ", p, 1, 1, %" #transpose_a ", %" #transpose_b ";\n}\n"                          \
                 : outputs                                                                                        \
                 : "l"(left), "l"(right), "r"(static_cast<int>(accumulate)), "n"(kTransposeA ? 1 : 0),            \
                   "n"(kTransposeB ? 1 : 0));                                                                     \
  }

namespace xlstm::dialect {

XL_WGMMA(64, XL_C32(c, 0), XL_R0 ", " XL_R16, 32, 33, 34, 35, 36, 37, 38)
XL_WGMMA(128, XL_C32(c, 0) XL_COMMA XL_C32(c, 32), XL_R0 ", " XL_R16 ", " XL_R32 ", " XL_R48, 64, 65, 66, 67, 68, 69, 70)
XL_WGMMA(192, XL_C32(c, 0) XL_COMMA XL_C32(c, 32) XL_COMMA XL_C32(c, 64),
         XL_R0 ", " XL_R16 ", " XL_R32 ", " XL_R48 ", " XL_R64 ", " XL_R80, 96, 97, 98, 99, 100, 101, 102)
XL_WGMMA(256, XL_C32(c, 0) XL_COMMA XL_C32(c, 32) XL_COMMA XL_C32(c, 64) XL_COMMA XL_C32(c, 96),
         XL_R0 ", " XL_R16 ", " XL_R32 ", " XL_R48 ", " XL_R64 ", " XL_R80 ", " XL_R96 ", " XL_R112,
         128, 129, 130, 131, 132, 133, 134)
XL_WGMMA_SHARED(32, XL_C16(c, 0), XL_R0, 16, 17, 18, 19, 20)
XL_WGMMA_SHARED(64, XL_C32(c, 0), XL_R0 ", " XL_R16, 32, 33, 34, 35, 36)
XL_WGMMA_SHARED(72, XL_C32(c, 0) XL_COMMA XL_C4(c, 32), XL_R0 ", " XL_R16 ", " XL_R32_TO_35, 36, 37, 38, 39, 40)

}  // namespace xlstm::dialect
// clang-format on
