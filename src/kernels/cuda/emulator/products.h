#pragma once
// wgmma of one warp: a quarter of a warpgroup's product, rows 16 w to 16 w + 15 of it. It runs when it is issued, or as
// late as its wait allows; until then its accumulators are poison, and must stay it, its registers of A must stay as
// they are, and what it reads of shared memory must not be written.
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "kernels/cuda/emulator/shared_memory.h"

namespace xlstm::emulator {

// Of shared memory, as the instruction takes it: start >> 4 (14 bits), leading byte offset >> 4 (from bit 16), stride
// byte offset >> 4 (from bit 32), swizzle of 128 bytes (1 from bit 62).
using Descriptor = std::uint64_t;

struct ProductLane {
  float* c = nullptr;                // columns / 2 of them
  const std::uint32_t* a = nullptr;  // four, or null: A lies in shared memory
};

struct ProductRequest {
  int columns = 0;  // N
  Descriptor a = 0, b = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  ProductLane lanes[kWarpSize];
};

class ProductQueue {
 public:
  ProductQueue(SharedMemory& shared, int warp, int warp_in_group, bool at_once)
      : shared_(shared), warp_(warp), warp_in_group_(warp_in_group), at_once_(at_once) {}

  void fence() { fenced_ = true; }
  void issue(const ProductRequest& request);
  void commit();
  void wait(int groups_left);
  void check_rest(const float* c) const;  // that no product writes there
  bool idle() const { return in_flight_.empty(); }

 private:
  // One set of accumulators: what they will hold, of all lanes.
  struct Accumulators {
    float* lanes[kWarpSize];
    int each;  // per lane
    std::vector<float> values;
    int products = 0;  // in flight
  };
  struct Piece {
    std::uint32_t address;  // of 16 bytes
  };
  struct Product {
    ProductRequest request;
    std::uint32_t a[kWarpSize][4];  // registers as they were
    std::shared_ptr<Accumulators> out;
    std::vector<Piece> reads;
    int group;
    bool done = false;
  };

  std::shared_ptr<Accumulators> accumulators(const ProductRequest& request);
  void collect_reads(Product& p) const;
  void compute(Product& p) const;
  void finish(Product& p);
  float element(Descriptor d, bool transposed, int row, int k) const;

  SharedMemory& shared_;
  int warp_, warp_in_group_;
  bool at_once_;
  bool fenced_ = false;
  int open_group_ = 0;
  std::list<Product> in_flight_;
};

}  // namespace xlstm::emulator
