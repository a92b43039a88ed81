#include "core/tensor.h"

namespace xlstm {

const char* name_of(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::f64: return "f64";
    case DType::bf16: return "bf16";
    case DType::i32: return "i32";
  }
  return "?";
}

const char* name_of(Device d) { return d == Device::cpu ? "cpu" : "cuda"; }

}  // namespace xlstm
