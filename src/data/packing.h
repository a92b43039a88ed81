#pragma once
#include <array>
#include <cstdint>

namespace xlstm {

// How a data set's tokens become sequences (docs/data.md).
enum class Packing : std::uint8_t {
  concat,     // windows over the stream of all documents
  first_fit,  // whole documents side by side, as `xlstm data build --packing first_fit` has put them into rows
};
constexpr auto names_of(Packing) { return std::array{"concat", "first_fit"}; }

}  // namespace xlstm
