#if defined(__AVX512F__)
#include "kernels/cpu/tile_product.h"

#include "kernels/cpu/tiles.h"

namespace xlstm::XL_CPU {

void multiply_on_tiles(const ProductTile<bf16>& t, const std::function<void(const float*, i64)>& finish) {
  multiply_tiles<bf16, HardwareTiles>(t, finish);
}
void multiply_on_tiles(const ProductTile<float>& t, const std::function<void(const float*, i64)>& finish) {
  multiply_tiles<float, HardwareTiles>(t, finish);
}
TilesInUse::TilesInUse() { HardwareTiles::set_up(); }
TilesInUse::~TilesInUse() { HardwareTiles::give_back(); }
void multiply_on_tiles(const PackedProduct& p) { multiply_packed<HardwareTiles>(p); }

}  // namespace xlstm::XL_CPU
#endif
