#pragma once
// Files that are either whole or absent. Every failure is a UserError that names the path and the system's reason.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace xlstm {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path);
std::string read_standard_input();

// Written beside the target, fsynced, renamed over it, and the folder fsynced.
void write_file_atomically(const fs::path& path, std::string_view content);

// For before the work whose result goes there: UserError naming `option` when the path is empty, a folder or a device,
// or when no file can be made there. Folders above it may be missing still.
void check_output_file(const fs::path& path, std::string_view option);

// What cannot be used any more, but may be somebody's: renamed to "path.why-1", or the next number that is free.
fs::path move_aside(const fs::path& path, std::string_view why);

void fsync_directory(const fs::path& dir);
void make_directory(const fs::path& dir);  // and the ones above it
void rename_path(const fs::path& from, const fs::path& to);

// Atomic where the file system offers it. Elsewhere three renames: whoever is killed between them may leave nothing at
// `b`, and what was there under its name + kExchangeSuffix.
void exchange_paths(const fs::path& a, const fs::path& b);
inline constexpr std::string_view kExchangeSuffix = ".tmp-exchange";

void remove_tree(const fs::path& path);

// For tests alone: asked before every call above and below that changes the disk ("write", "fsync", "rename", ...).
// An errno other than 0 makes the call fail with it; a process that ends inside was killed at that call.
extern std::function<int(const char* call)> file_call_hook;

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

// A file that is there already, written by position; several processes may write into it at once. close() as above.
class SharedFile {
 public:
  explicit SharedFile(fs::path path);
  ~SharedFile();
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  void write(i64 offset, const void* data, i64 bytes);
  void close();

 private:
  fs::path path_;
  int fd_ = -1;
};

// A file read by position into memory of the caller. It stays readable when it is deleted meanwhile.
class InputFile {
 public:
  explicit InputFile(fs::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  void read(i64 offset, void* data, i64 bytes) const;  // UserError when the file ends before that
  void forget_cached() const;                          // so that the next read comes from the disk
  const fs::path& path() const { return path_; }
  i64 bytes() const { return bytes_; }

 private:
  fs::path path_;
  int fd_ = -1;
  i64 bytes_ = 0;
};

// Holds an advisory lock on a file for as long as it lives; the lock of a dead process is gone with it.
class FileLock {
 public:
  // UserError "... is in use by process 123", or with the system's reason where files cannot be locked.
  explicit FileLock(const fs::path& path, std::string_view what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  // Whether a file is one that a FileLock holds or has left, and not somebody's file of that name.
  static bool made(const fs::path& path);

 private:
  int fd_ = -1;
};

}  // namespace xlstm
