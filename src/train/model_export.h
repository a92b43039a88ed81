#pragma once
// A checkpoint's weights in a folder of their own, for other programs (formats: docs/formats.md).
#include "train/checkpoint.h"
#include "train/hf_config.h"

namespace xlstm {

// hf: config.json and model.safetensors as the `xlstm` model of Hugging Face's transformers reads them. own: our config
// and the names of the `xlstm` package, for every model. automatic: hf where that layout can say the model.
enum class ExportFormat : std::uint8_t { automatic, hf, own };
constexpr auto names_of(ExportFormat) { return std::array{"auto", "hf", "xlstm"}; }

struct ExportOptions {
  fs::path out;  // absent, or an empty folder
  ExportFormat format = ExportFormat::automatic;
  DType dtype = DType::f32;         // or bf16, rounded to nearest
  i64 shard_bytes = 5'000'000'000;  // most bytes of values in one file, but for a tensor that alone has more
  fs::path tokenizer;               // copied beside the weights when it is there
  i64 eod_id = 0;                   // of that tokenizer
};

struct ExportResult {
  ExportFormat format;  // hf or own
  std::string why_own;  // why it is not hf, where `automatic` had to choose
  i64 tensors = 0, parameters = 0, bytes = 0;
  std::vector<std::string> files;
};

// Whole or not at all: the folder gets its name when everything is on the disk. Memory: one file's values. UserError
// naming the tensor when a value's checksum is wrong, or saying why the layout asked for cannot hold this model.
ExportResult export_checkpoint(const CheckpointReader& checkpoint, const ExportOptions& options);

}  // namespace xlstm
