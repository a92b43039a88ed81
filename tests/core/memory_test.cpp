// Arenas measure exactly what they later give, and parameters know where they lie.
#include "core/memory.h"

#include <numeric>

#include "core/context.h"
#include "core/params.h"
#include "tests/core/support.h"
#include "tests/support/fake_gpu.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

void fill(Arena& arena) {
  arena.alloc("odd", DType::f32, 3, 5);
  {
    const ScratchScope scope(arena);
    arena.alloc("temporary", DType::f64, 100, 3);
  }
  arena.alloc("bytes", DType::bf16, 7, 1);
  arena.alloc("empty", DType::f32, 0, 9);
}

TEST(ArenaTest, MeasuringEqualsReal) {
  Arena measured = Arena::measuring("a");
  fill(measured);
  EXPECT_TRUE(measured.measuring());
  EXPECT_EQ(measured.peak(), 256 + 2400);
  const Buffer buffer(measured.peak());
  Arena real("a", buffer.data(), measured.peak());
  fill(real);
  EXPECT_EQ(real.peak(), measured.peak());
  EXPECT_EQ(real.mark(), measured.mark());
  EXPECT_FALSE(real.measuring());
}

TEST(ArenaTest, MoreThanAnyMemoryIsTheUsersToMend) {
  Arena arena = Arena::measuring("activations");
  arena.alloc("x", DType::f32, i64{1} << 30, i64{1} << 29);
  EXPECT_THAT(error_of([&] { arena.alloc("y", DType::f32, i64{1} << 30, i64{1} << 30); }),
              AllOf(HasSubstr("activations"), HasSubstr("'y'")));
}

class CgroupMemory : public FolderTest {};

TEST_F(CgroupMemory, CachedFilesAreNotUsed) {
  EXPECT_EQ(cgroup_available_bytes(path("none").string()), std::numeric_limits<i64>::max());
  write_file_atomically(path("memory.max"), "1000\n");
  write_file_atomically(path("memory.current"), "900\n");
  EXPECT_EQ(cgroup_available_bytes(path("").string()), 100);
  write_file_atomically(path("memory.stat"), "anon 300\nfile 600\ninactive_file 350\nactive_file 200\nslab 50\n");
  EXPECT_EQ(cgroup_available_bytes(path("").string()), 650);
  write_file_atomically(path("memory.max"), "max\n");
  EXPECT_EQ(cgroup_available_bytes(path("").string()), std::numeric_limits<i64>::max());
}

TEST(ArenaTest, TensorsAreAlignedAndApart) {
  const Buffer buffer(4096);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256, 0u);
  Arena arena("a", buffer.data(), 4096);
  const Tensor a = arena.alloc("a", DType::f32, 3, 5), b = arena.alloc("b", DType::i32, 1, 1);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data) % 256, 0u);
  EXPECT_EQ(b.data - a.data, 256);
  EXPECT_THAT(std::vector<float>(a.row<float>(), a.row<float>() + a.size()), Each(0.0f));
  EXPECT_EQ(a.row_stride, 5);
}

TEST(ArenaTest, AFullOneNamesArenaAndTensor) {
  const Buffer buffer(512);
  Arena arena("activations", buffer.data(), 512);
  arena.alloc("first", DType::f32, 1, 1);
  EXPECT_EQ(error_of<Error>([&] { arena.alloc("fits", DType::f32, 64, 1); }), "");
  EXPECT_THAT(error_of<Error>([&] { arena.alloc("gate", DType::f32, 1, 1); }),
              AllOf(HasSubstr("'activations' is full"), HasSubstr("'gate' needs 516 of 512")));
  arena.rewind(0);
  EXPECT_EQ(error_of<Error>([&] { arena.alloc("again", DType::f32, 128, 1); }), "");
}

TEST(TensorTest, SlicesAreViews) {
  std::vector<float> values(12);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor t = make_tensor(values.data(), DType::f32, 3, 4);
  EXPECT_EQ(*t.slice_rows(1, 3).row<float>(), 4);
  const Tensor columns = t.slice_cols(1, 3);
  EXPECT_EQ(*columns.row<float>(2), 9);
  EXPECT_FALSE(columns.dense());
  EXPECT_TRUE(t.flat().dense());
  EXPECT_THAT(error_of<Error>([&] { t.slice_rows(2, 4); }), HasSubstr("rows [2, 4) of 3"));
  EXPECT_THAT(error_of<Error>([&] { columns.flat(); }), HasSubstr("dense"));
  EXPECT_THAT(error_of<Error>([&] { t.row<double>(); }), HasSubstr("f32"));
}

// A fused matrix is one tensor; its parts lie under each other in it, each with a name of its own.
TEST(Params, FusedParts) {
  const Buffer values_memory(1 << 14), grads_memory(1 << 14);
  Arena values("values", values_memory.data(), 1 << 14), grads("grads", grads_memory.data(), 1 << 14);
  ParamStore store(values, grads, DType::f32);
  store.add("norm", 1, 8, Init::ones(), false);
  const Param qkv =
      store.add_fused({{"q", 4, Init::normal(0.1)}, {"k", 4, Init::normal(0.2)}, {"v", 6, Init::zeros()}}, 8, true);
  EXPECT_EQ(qkv.value.rows, 14);
  EXPECT_EQ(store.count(), 8 + 14 * 8);
  const std::vector<ParamInfo>& all = store.all();
  ASSERT_EQ(all.size(), 4u);
  i64 row = 0;
  for (std::size_t i = 1; i < all.size(); ++i) {
    EXPECT_EQ(all[i].name, std::string(1, "nqkv"[i]));
    EXPECT_EQ(all[i].param.value.row<float>(), qkv.value.row<float>(row));
    EXPECT_EQ(all[i].param.grad.row<float>(), qkv.grad.row<float>(row));
    EXPECT_TRUE(all[i].decay);
    row += all[i].param.value.rows;
  }
  EXPECT_EQ(row, 14);
  EXPECT_EQ(all[2].init.a, 0.2);
  EXPECT_FALSE(all[0].decay);
}

// Whatever its type, a row of flat_size() elements has every parameter at the same place.
TEST(Params, LieInOneRow) {
  const Buffer memory(1 << 15);
  Arena values("values", memory.data(), 1 << 14), grads("grads", memory.data() + (1 << 14), 1 << 14);
  ParamStore store(values, grads, DType::f32);
  store.add("norm", 1, 7, Init::ones(), false);
  const Param fused = store.add_fused({{"q", 3, Init::zeros()}, {"k", 27, Init::zeros()}}, 5, true);
  store.add("out", 2, 3, Init::zeros(), true);
  store.add_fused({{"i", 3, Init::zeros()}, {"f", 3, Init::zeros()}}, 1, false);

  EXPECT_EQ(store.flat_size(), 128 + 256 + 128 + 128);
  EXPECT_EQ(values.peak(), 4 * store.flat_size());
  for (const auto& [flat, which] : {std::pair{store.flat_masters(), &Param::value}, {store.flat_grads(), &Param::grad}})
    for (std::size_t i = 0; i < store.all().size(); ++i) {
      const Tensor part = store.part_of_flat(flat, i), own = store.all()[i].param.*which;
      EXPECT_EQ(part.data, own.data) << store.all()[i].name;
      EXPECT_EQ(part.rows, own.rows);
      EXPECT_EQ(part.cols, own.cols);
      EXPECT_EQ(part.row_stride, own.row_stride);
    }
  EXPECT_EQ(fused.value.rows, 30);

  ASSERT_EQ(store.runs().size(), 3u);
  const i64 ends[] = {128, 512, 640};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(store.runs()[i].begin, i == 0 ? 0 : ends[i - 1]);
    EXPECT_EQ(store.runs()[i].end, ends[i]);
    EXPECT_EQ(store.runs()[i].decay, i == 1);
  }
}

TEST(Memory, TooMuchIsTheUsersToMend) {
  EXPECT_THAT(error_of([] { Buffer buffer(i64{1} << 60); }), HasSubstr("memory"));
  EXPECT_GT(peak_resident_bytes(), 1 << 20);
  EXPECT_GT(available_memory_bytes(), 1 << 20);
}

// Locks one range at a time.
struct PinningGpu : test::FakeGpu {
  bool pin(std::byte* host, i64 bytes) override {
    if (grants) pinned = {host, bytes};
    return grants;
  }
  void unpin(std::byte* host) noexcept override {
    EXPECT_EQ(host, pinned.first);
    *host = std::byte{1};  // still there
    pinned = {};
    ++unpinned;
  }
  bool grants = true;
  std::pair<std::byte*, i64> pinned{};
  int unpinned = 0;
};

TEST(Memory, PinnedMemoryIsUnlockedBeforeItGoes) {
  PinningGpu gpu;
  {
    Buffer buffer(5000);
    EXPECT_TRUE(buffer.pin(gpu));
    EXPECT_EQ(gpu.pinned, std::pair(buffer.data(), i64{5000}));
    Buffer moved = std::move(buffer), assigned;
    assigned = std::move(moved);
    EXPECT_EQ(gpu.unpinned, 0);
    EXPECT_EQ(gpu.pinned.first, assigned.data());
  }
  EXPECT_EQ(gpu.unpinned, 1);
}

TEST(Memory, MemoryThatIsNotPinnedIsMemoryStill) {
  PinningGpu gpu;
  gpu.grants = false;
  {
    Buffer buffer(5000);
    EXPECT_FALSE(buffer.pin(gpu));
    buffer.data()[4999] = std::byte{1};
  }
  EXPECT_EQ(gpu.unpinned, 0);
}

TEST(Check, SaysWhereAndWhat) {
  EXPECT_THAT(error_of<Error>([] { XL_CHECK(1 + 1 == 3, "sum is {}", 2); }),
              AllOf(HasSubstr("memory_test.cpp:"), HasSubstr("1 + 1 == 3"), HasSubstr("sum is 2")));
}

TEST(ContextTest, ClassScope) {
  Arena arena = Arena::measuring("scratch");
  Context ctx{.scratch = &arena};
  EXPECT_TRUE(ctx.dry());
  {
    const ClassScope outer(ctx, OpClass::cell);
    {
      const ClassScope inner(ctx, OpClass::ffn);
      EXPECT_EQ(ctx.op_class, OpClass::ffn);
    }
    EXPECT_EQ(ctx.op_class, OpClass::cell);
  }
  EXPECT_EQ(ctx.op_class, OpClass::other);
}

}  // namespace
}  // namespace xlstm
