#pragma once
// Files that are either whole or absent. Every failure is a UserError that names the path and the system's reason.
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace xlstm {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path);

// Written beside the target, fsynced, renamed over it, and the folder fsynced.
void write_file_atomically(const fs::path& path, std::string_view content);

void fsync_directory(const fs::path& dir);

// A file being written, in order. close() flushes, fsyncs and checks; without it the destructor just closes.
class OutputFile {
 public:
  explicit OutputFile(fs::path path, bool append = false);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void close();

 private:
  fs::path path_;
  int fd_ = -1;
};

// A read-only file, paged in on use.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Holds an advisory lock on a file for as long as it lives; the lock of a dead process is gone with it.
class FileLock {
 public:
  explicit FileLock(const fs::path& path, std::string_view what);  // UserError "... is in use by process 123"
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace xlstm
