#pragma once
// Where the time of a step goes, per operator class. The door of every op (kernels/ops.h) adds its time; matrix
// products and the cell add their operations. `exchange` is the time in calls of the communicator. Its bytes are those
// of the tensors that it was given.
#include <array>
#include <chrono>
#include <cstdint>

#include "core/tensor.h"

namespace xlstm {

enum class OpClass : std::uint8_t { other, embedding, norms, projections, gates, cell, ffn, head, optimizer, exchange };
constexpr int kOpClassCount = 10;
const char* name_of(OpClass c);

struct Profile {
  struct Entry {
    double seconds = 0;
    double flops = 0;
    double bytes = 0;  // of the operations' tensors, each once: what they move at least
    i64 calls = 0;
  };
  std::array<Entry, kOpClassCount> classes{};

  void add_call(OpClass c, double seconds) {
    Entry& e = classes[static_cast<std::size_t>(c)];
    e.seconds += seconds;
    ++e.calls;
  }
  void add_bytes(OpClass c, double bytes) { classes[static_cast<std::size_t>(c)].bytes += bytes; }
  void add_flops(OpClass c, double flops) { classes[static_cast<std::size_t>(c)].flops += flops; }
};

struct Timer {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }
};

}  // namespace xlstm
