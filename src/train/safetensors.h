#pragma once
// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length, a JSON header, then
// the values without gaps, little endian. A file that is damaged or not ours is a UserError that names the file, the
// tensor, what was expected and what was found.
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "core/tensor.h"

namespace xlstm {

struct NamedTensor {
  std::string name;
  Tensor value;
  bool is_matrix = false;  // of one row: [1, n] in a file, where a vector is [n]
};

// How a tensor's shape stands in a file.
std::vector<i64> stored_shape(const NamedTensor& t);
bool shape_fits(const std::vector<i64>& stored, const Tensor& t);  // (1, n) may be [n] or [1, n]
std::string text_of_shape(const std::vector<i64>& shape);          // "[4, 5]"

// How a file of these tensors begins, and where each tensor's values lie in it.
struct SafetensorsLayout {
  std::string header;        // everything before the values
  std::vector<i64> offsets;  // from the start of the file, in the order in which the tensors were given
  i64 bytes = 0;             // of the whole file
};
SafetensorsLayout layout_safetensors(std::span<const NamedTensor> tensors,
                                     const std::map<std::string, std::string>& metadata = {});

struct WrittenTensors {
  i64 bytes = 0;                  // of the whole file
  std::string header_xxh3;        // of everything before the values
  std::vector<std::string> xxh3;  // of each tensor's values, in the order in which the tensors were given
};

// Streams the tensors from their memory into a new file and fsyncs it. They lie in the file in the order given, the
// widest element types first, so that every value is aligned to its size.
WrittenTensors write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                                 const std::map<std::string, std::string>& metadata = {});

struct SafetensorsEntry {
  std::string name;
  DType dtype;
  std::vector<i64> shape;
  i64 offset = 0, bytes = 0;  // of the values, from the start of the file
};

// An open file whose header has been checked in every field; values are read on demand, and stay readable when the
// file is deleted meanwhile. Safe to use from several threads.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(fs::path path);

  const fs::path& path() const { return file_.path(); }
  i64 bytes() const { return file_.bytes(); }
  const std::vector<SafetensorsEntry>& tensors() const { return entries_; }  // in the order of their offsets
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& header_xxh3() const { return header_xxh3_; }
  const SafetensorsEntry* find(const std::string& name) const;  // nullptr when there is none
  void forget_cached() const { file_.forget_cached(); }

  // Reads the tensor of that name into memory that is already there. Its type and shape must be those of `out`.
  // Returns the xxh3 of the values.
  std::string read_into(Tensor out, const std::string& name) const;

  // Part of a tensor's values: `bytes` bytes from `offset` (counted from the tensor's first byte).
  void read(void* out, const SafetensorsEntry& entry, i64 offset, i64 bytes) const;

  // All values of a tensor, in pieces whose size is a multiple of 8 bytes (but for the last).
  void for_each_piece(const SafetensorsEntry& entry,
                      const std::function<void(std::span<const std::byte>)>& visit) const;

 private:
  void parse_header(const std::string& text, i64 data_offset);
  void check_cover(i64 data_offset);

  InputFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
  std::string header_xxh3_;
};

}  // namespace xlstm
