#pragma once
// A file or stdin as a stream of bytes, unpacked on the way.
#include <memory>
#include <string>

#include "core/file.h"

namespace xlstm {

enum class Compression : std::uint8_t { none, gzip, zstd };

// As messages call an input: "-" is stdin.
inline std::string name_of_input(const fs::path& path) { return path == "-" ? "stdin" : path.string(); }

class ByteStream {
 public:
  // "-" is stdin. UserError when the file cannot be opened.
  ByteStream(const fs::path& path, Compression compression);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  // Up to `capacity` unpacked bytes; 0 only at the end. UserError with file and packed offset when the data is
  // damaged or cut off.
  std::size_t read(char* to, std::size_t capacity);

  i64 packed_bytes_read() const { return packed_offset_; }  // of the file itself, for progress

  struct Codec;  // gzip, zstd or none: turns packed bytes into bytes

 private:
  void refill();

  fs::path path_;
  int fd_ = -1;
  std::unique_ptr<Codec> codec_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // packed bytes in buffer_ that wait to be unpacked
  i64 packed_offset_ = 0;            // bytes taken from the file so far
  bool file_ended_ = false;
};

}  // namespace xlstm
