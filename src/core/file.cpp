#include "core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace xlstm {

namespace {

UserError system_error(std::string_view doing, const fs::path& path) {
  const char* hint = errno == ENOSPC ? " (free some space, or write elsewhere)" : "";
  return user_error("cannot {} {}: {}{}", doing, path.string(), std::strerror(errno), hint);
}

int open_or_throw(const fs::path& path, int flags, std::string_view doing) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) throw system_error(doing, path);
  return fd;
}

}  // namespace

std::string read_file(const fs::path& path) {
  const int fd = open_or_throw(path, O_RDONLY, "read");
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0) {
      const int saved = errno;
      ::close(fd);
      errno = saved;
      throw system_error("read", path);
    }
    if (got == 0) break;
    content.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(fd);
  return content;
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path aside = path.string() + ".tmp";
  OutputFile out(aside);
  out.write(content);
  out.close();
  if (rename(aside.c_str(), path.c_str()) != 0) throw system_error("replace", path);
  fsync_directory(path.parent_path().empty() ? "." : path.parent_path());
}

void fsync_directory(const fs::path& dir) {
  const int fd = open_or_throw(dir, O_RDONLY | O_DIRECTORY, "open");
  const int result = fsync(fd);
  ::close(fd);
  if (result != 0) throw system_error("sync", dir);
}

OutputFile::OutputFile(fs::path path, bool append)
    : path_(std::move(path)),
      fd_(open_or_throw(path_, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), "write")) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(const void* data, std::size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(fd_, p, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw system_error("write", path_);
    p += put;
    bytes -= static_cast<std::size_t>(put);
  }
}

void OutputFile::close() {
  if (fsync(fd_) != 0) throw system_error("sync", path_);
  if (::close(std::exchange(fd_, -1)) != 0) throw system_error("close", path_);
}

MappedFile::MappedFile(const fs::path& path) {
  const int fd = open_or_throw(path, O_RDONLY, "read");
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    ::close(fd);
    throw system_error("read", path);
  }
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ > 0) {
    void* p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
      ::close(fd);
      throw system_error("map", path);
    }
    data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

FileLock::FileLock(const fs::path& path, std::string_view what)
    : fd_(open_or_throw(path, O_RDWR | O_CREAT, "lock")) {
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    char owner[32] = {};
    const ssize_t got = pread(fd_, owner, sizeof owner - 1, 0);
    ::close(std::exchange(fd_, -1));
    throw user_error("{} is in use by process {}; wait for it to end, or choose another", what,
                     got > 0 ? owner : "?");
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, pid.data(), pid.size(), 0) < 0) throw system_error("lock", path);
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace xlstm
