// In the place of src/kernels/cpu/tile_product.cpp, which the linker then leaves out. Compiled as the AVX-512 kernels.
#include "kernels/cpu/tile_product.h"
#include "tests/support/emulated_tiles.h"
#include "tests/support/op_case.h"

namespace xlstm::XL_CPU {

void multiply_on_tiles(const ProductTile<bf16>& t, const std::function<void(const float*, i64)>& finish) {
  multiply_tiles<bf16, test::EmulatedTiles>(t, finish);
}
void multiply_on_tiles(const ProductTile<float>& t, const std::function<void(const float*, i64)>& finish) {
  multiply_tiles<float, test::EmulatedTiles>(t, finish);
}
TilesInUse::TilesInUse() { test::EmulatedTiles::set_up(); }
TilesInUse::~TilesInUse() { test::EmulatedTiles::give_back(); }
void multiply_on_tiles(const PackedProduct& p) { multiply_packed<test::EmulatedTiles>(p); }

}  // namespace xlstm::XL_CPU

namespace xlstm::test {
void tiles_are_emulated() {}
}  // namespace xlstm::test
