#pragma once
// One checkpoint: a folder of
//   manifest.json             what must be there: every tensor with shape and xxh3, and the checksum of all else
//   params.safetensors        the weights
//   optimizer-00000.safetensors, ...   the optimizer's tensors, whole; in which file each lies stands in the manifest
//   state.json                whatever else the trainer needs to go on
// Every byte of these files is under some checksum, the manifest's own included.
#include <memory>
#include <optional>

#include "core/hash.h"
#include "core/json.h"
#include "train/safetensors.h"

namespace xlstm {

// Consecutive elements of a tensor that lies on several ranks.
struct TensorPiece {
  enum class Of : std::uint8_t { params, optimizer } of;
  std::size_t tensor;  // its number in that list
  i64 begin;           // the first element
  Tensor values;       // (1, n)
};

// What is to be saved. Tensors are views of the trainer's memory. Names are unique within each of the two lists.
struct CheckpointContent {
  i64 step = 0;
  std::vector<NamedTensor> params{}, optimizer{};
  Json state{};  // numbers must be finite; state["fingerprints"] = {config, data, ...} is shown by `info`
  std::vector<TensorPiece> pieces{};  // with several ranks: this one's values; the lists then hold names and shapes
  std::optional<i64> best{};          // step of the checkpoint, this one or an older one, that BEST is to name
  std::vector<i64> pinned{};          // steps of older checkpoints that the rotation has to leave
};

// sha256 of weights that come in pieces, each tensor's in order, tensors sorted by name; as f32 whatever their type.
class WeightsHash {
 public:
  void update(std::span<const std::byte> values, DType dtype);
  std::string hex() { return hash_.hex(); }

 private:
  Sha256 hash_;
  std::vector<float> buffer_ = std::vector<float>(1 << 14);
};

// sha256 over the values of all weights, sorted by name, as f32 little endian: the same for any number of ranks and
// any way to store them.
std::string weights_sha256(std::span<const NamedTensor> params);

// Writes the files into an empty folder that is there, and fsyncs them and the folder. Returns the bytes written.
i64 write_checkpoint(const fs::path& folder, const CheckpointContent& content);

// The two files of tensors, and what a manifest says of them.
inline constexpr const char* kParamsFile = "params.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer-00000.safetensors";
std::map<std::string, std::string> file_metadata(const CheckpointContent& content);
// Writes state and manifest, once the tensors are on the disk. Returns the bytes of all files.
i64 write_manifest(const fs::path& folder, const CheckpointContent& content, const WrittenTensors& params,
                   const WrittenTensors& optimizer, const std::string& weights_sha256);

// A checkpoint whose files are missing, damaged or not ours: an older one may serve instead. (A checkpoint of another
// model, or of a later version of the program, is a plain UserError.)
struct DamagedCheckpoint : UserError {
  using UserError::UserError;
};

struct StoredTensor {
  const SafetensorsFile* file;
  const SafetensorsEntry* entry;
  std::string xxh3;
};

// Reads a tensor, shows it piece by piece, and throws DamagedCheckpoint when its checksum is another.
void read_checked(const StoredTensor& t, const std::function<void(std::span<const std::byte>)>& visit);

// Opens a checkpoint: manifest, state and the headers of all files are checked at once and all files stay open, so
// that it can be read to its end even when it is rotated away meanwhile. Values are checked while they are read.
class CheckpointReader {
 public:
  explicit CheckpointReader(fs::path folder);

  const fs::path& folder() const { return folder_; }
  i64 step() const { return step_; }
  i64 parameters() const { return parameters_; }
  i64 bytes() const;  // of all files
  const std::string& weights_sha256() const { return weights_sha256_; }
  const std::string& program() const { return program_; }
  const Json& state() const { return state_; }
  const std::vector<StoredTensor>& params() const { return params_; }  // in the order in which they were saved
  const std::vector<StoredTensor>& optimizer() const { return optimizer_; }

  // Fill memory that is already there. Names, types and shapes must be exactly those of the checkpoint, which is
  // checked before the first byte is written. After a DamagedCheckpoint the memory holds neither old nor new values.
  void read_params(std::span<const NamedTensor> out) const { read(out, params_, "model"); }
  void read_optimizer(std::span<const NamedTensor> out) const { read(out, optimizer_, "optimizer"); }

  // The stored tensors of those names, types and shapes, in that order; UserError unless these are all there are.
  std::vector<const StoredTensor*> match_params(std::span<const NamedTensor> like) const {
    return match(like, params_, "model");
  }
  std::vector<const StoredTensor*> match_optimizer(std::span<const NamedTensor> like) const {
    return match(like, optimizer_, "optimizer");
  }

  // Reads everything and compares every checksum.
  void verify() const;
  void forget_cached() const;  // so that the next read comes from the disk

 private:
  Json open_manifest();
  std::vector<StoredTensor> open_tensors(const Json& list);
  void open_state(const Json& entry);
  std::vector<const StoredTensor*> match(std::span<const NamedTensor> like, const std::vector<StoredTensor>& stored,
                                         const char* what) const;
  void read(std::span<const NamedTensor> out, const std::vector<StoredTensor>& stored, const char* what) const;

  fs::path folder_;
  i64 step_ = 0, parameters_ = 0, other_bytes_ = 0;
  std::string weights_sha256_, program_;
  Json state_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  std::vector<StoredTensor> params_, optimizer_;
};

}  // namespace xlstm
