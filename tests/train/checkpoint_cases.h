#pragma once
// A small "model" whose values are all different, and a folder of its own for every test.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "core/random.h"
#include "train/checkpoint_store.h"

namespace xlstm {

// Makes the hook of core/file.h end with the scope.
struct HookScope {
  explicit HookScope(std::function<int(const char*)> hook) { file_call_hook = std::move(hook); }
  ~HookScope() { file_call_hook = nullptr; }
};

class TemporaryFolder : public ::testing::Test {
 protected:
  TemporaryFolder() {
    static int count = 0;
    // In memory where there is such a place: these tests sync thousands of times.
    const fs::path base = access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path();
    dir = base / fmt::format("xlstm_{}_{}", getpid(), count++);
    fs::create_directories(dir);
  }
  ~TemporaryFolder() override { fs::remove_all(dir); }
  fs::path dir;
};

// Owns the memory of some tensors.
struct Tensors {
  std::vector<std::unique_ptr<std::byte[]>> memory;
  std::vector<NamedTensor> list;

  Tensor add(const std::string& name, DType dtype, i64 rows, i64 cols) {
    const i64 bytes = rows * cols * size_of(dtype);
    memory.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes)));
    list.push_back({name, make_tensor(memory.back().get(), dtype, rows, cols)});
    return list.back().value;
  }
  void fill(std::uint64_t seed) {
    for (std::size_t t = 0; t < list.size(); ++t) {
      const RandomStream random(seed, RandomUse::test, t);
      for (i64 i = 0; i < list[t].value.bytes(); ++i)
        list[t].value.data[i] = static_cast<std::byte>(random.bits(static_cast<std::uint64_t>(i)));
    }
  }
  std::string bits() const {
    std::string all;
    for (const NamedTensor& t : list)
      all.append(reinterpret_cast<const char*>(t.value.data), static_cast<std::size_t>(t.value.bytes()));
    return all;
  }
};

struct SmallRun {
  Tensors params, optimizer;

  explicit SmallRun(i64 cols = 3) {
    params.add("embedding.weight", DType::f32, 5, cols);
    params.add("blocks.0.norm.weight", DType::f32, 1, cols);
    params.add("blocks.0.bias", DType::f32, 2, 1);
    optimizer.add("m.embedding.weight", DType::f32, 5, cols);
    optimizer.add("counts", DType::i32, 1, 2);
  }
  CheckpointContent at_step(i64 step) {
    params.fill(static_cast<std::uint64_t>(step));
    optimizer.fill(static_cast<std::uint64_t>(step) + 1'000'000);
    return {step, params.list, optimizer.list, {{"position", step * 10}, {"fingerprints", {{"data", "abc"}}}}};
  }
  LoadTarget target() { return {.params = params.list, .optimizer = optimizer.list}; }
  std::string bits() const { return params.bits() + optimizer.bits(); }
};

// Empty when the newest good checkpoint holds exactly what SmallRun has at its step.
inline std::string what_is_wrong_after_loading(const fs::path& dir, i64& step) {
  SmallRun loaded, meant;
  const auto found = load_newest_checkpoint(dir, loaded.target());
  if (!found) return "no checkpoint";
  step = found->step;
  const CheckpointContent content = meant.at_step(step);
  if (loaded.bits() != meant.bits()) return "other values";
  if (found->state != content.state) return "another state";
  return "";
}

}  // namespace xlstm
