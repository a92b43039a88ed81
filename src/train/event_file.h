#pragma once
// TensorBoard's event files: records of length, masked CRC-32C of it, message, masked CRC-32C of that; the messages are
// those of events.proto.
#include <memory>
#include <span>
#include <string>

#include "core/file.h"

namespace xlstm {

struct Scalar {
  const char* tag;
  double value;
};

class EventFile {
 public:
  // A new file in the folder, which is made; readers take all files of a folder together. What cannot be written is
  // told once and never thrown: training goes on.
  explicit EventFile(const fs::path& folder);
  ~EventFile();

  void add(i64 step, std::span<const Scalar> scalars);
  const fs::path& path() const { return path_; }

 private:
  void write_record(const std::string& message);

  fs::path path_;
  std::unique_ptr<OutputFile> file_;
};

// "123456789" has 0xe3069283.
std::uint32_t crc32c(const void* data, std::size_t bytes);

}  // namespace xlstm
