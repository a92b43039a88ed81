#include "core/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace xlstm {

std::function<int(const char* call)> file_call_hook;

namespace {

bool allowed(const char* call) {
  errno = file_call_hook ? file_call_hook(call) : 0;
  return errno == 0;
}

UserError system_error(std::string_view doing, const fs::path& path) {
  const char* hint = errno == ENOSPC || errno == EDQUOT ? " (free some space, or write elsewhere)"
                     : errno == EFBIG                   ? " (raise 'ulimit -f')"
                     : errno == EMFILE                  ? " (raise the limit of open files, 'ulimit -Hn')"
                                                        : "";
  return user_error("cannot {} {}: {}{}", doing, path.string(), std::strerror(errno), hint);
}

int open_or_throw(const fs::path& path, int flags, std::string_view doing) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) throw system_error(doing, path);
  return fd;
}

// False when another process has moved the file away between our opening and our locking it: it was in use then.
bool is_still_at(const fs::path& path, int fd) {
  struct stat held {
  }, there{};
  if (fstat(fd, &held) == 0 && stat(path.c_str(), &there) == 0 && held.st_dev == there.st_dev &&
      held.st_ino == there.st_ino)
    return true;
  errno = EWOULDBLOCK;
  return false;
}

}  // namespace

// By its descriptor: /dev/stdin cannot be opened where it is a socket.
std::string read_standard_input() {
  std::string text;
  for (char piece[1 << 14];;) {
    const ssize_t n = ::read(STDIN_FILENO, piece, sizeof piece);
    if (n == 0) return text;
    if (n > 0)
      text.append(piece, static_cast<std::size_t>(n));
    else if (errno != EINTR)
      throw user_error("stdin: cannot be read: {}", std::strerror(errno));
  }
}

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
  try {
    OutputFile out(aside);
    out.write(content);
    out.close();
    rename_path(aside, path);
  } catch (...) {
    unlink(aside.c_str());
    throw;
  }
  fsync_directory(path.parent_path().empty() ? "." : path.parent_path());
}

void check_output_file(const fs::path& path, std::string_view option) {
  std::error_code error;
  if (path.empty()) throw user_error("{}: is empty; name the file to write", option);
  const fs::file_status there = fs::status(path, error);
  if (fs::exists(there) && !fs::is_regular_file(there))
    throw user_error("{} {}: is {}; name the file to write", option, path.string(),
                     fs::is_directory(there) ? "a folder" : "no regular file");
  if (path.filename().empty()) throw user_error("{} {}: ends in a slash; name a file", option, path.string());
  fs::path folder = path.parent_path();
  while (!folder.empty() && !fs::exists(folder, error)) folder = folder.parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, error))
    errno = ENOTDIR;
  else if (access(folder.c_str(), W_OK | X_OK) == 0)
    return;
  throw user_error("{} {}: cannot write in {}: {}", option, path.string(), folder.string(), std::strerror(errno));
}

fs::path move_aside(const fs::path& path, std::string_view why) {
  fs::path aside;
  std::error_code ignored;
  for (int n = 1; aside.empty() || fs::exists(fs::symlink_status(aside, ignored)); ++n)
    aside = fmt::format("{}.{}-{}", path.string(), why, n);
  rename_path(path, aside);
  return aside;
}

void fsync_directory(const fs::path& dir) {
  const int fd = open_or_throw(dir, O_RDONLY | O_DIRECTORY, "open");
  const bool done = allowed("fsync") && fsync(fd) == 0;
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (!done) throw system_error("sync", dir);
}

void make_directory(const fs::path& dir) {
  std::error_code failed;
  if (allowed("mkdir"))
    fs::create_directories(dir, failed);
  else
    failed.assign(errno, std::generic_category());
  if (failed) errno = failed.value(), throw system_error("make the folder", dir);
}

void rename_path(const fs::path& from, const fs::path& to) {
  if (!allowed("rename") || rename(from.c_str(), to.c_str()) != 0) throw system_error("replace", to);
}

void exchange_paths(const fs::path& a, const fs::path& b) {
  if (allowed("exchange") && renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) throw system_error("replace", b);
  const fs::path aside = b.string() + std::string(kExchangeSuffix);
  rename_path(b, aside);
  bool replaced = false;
  try {
    rename_path(a, b);
    replaced = true;
    rename_path(aside, a);
  } catch (...) {  // back to how it was
    if (replaced) rename(b.c_str(), a.c_str());
    rename(aside.c_str(), b.c_str());
    throw;
  }
}

void remove_tree(const fs::path& path) {
  std::error_code failed;
  if (allowed("remove"))
    fs::remove_all(path, failed);
  else
    failed.assign(errno, std::generic_category());
  if (failed) errno = failed.value(), throw system_error("remove", path);
}

OutputFile::OutputFile(fs::path path, bool append)
    : path_(std::move(path)), fd_(open_or_throw(path_, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), "write")) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(const void* data, std::size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = allowed("write") ? ::write(fd_, p, bytes) : -1;
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw system_error("write", path_);
    p += put;
    bytes -= static_cast<std::size_t>(put);
  }
}

void OutputFile::close() {
  if (!allowed("fsync") || fsync(fd_) != 0) throw system_error("sync", path_);
  if (::close(std::exchange(fd_, -1)) != 0) throw system_error("close", path_);
}

SharedFile::SharedFile(fs::path path) : path_(std::move(path)), fd_(open_or_throw(path_, O_WRONLY, "write")) {}

SharedFile::~SharedFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SharedFile::write(i64 offset, const void* data, i64 bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = allowed("write") ? ::pwrite(fd_, p, static_cast<std::size_t>(bytes), offset) : -1;
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw system_error("write", path_);
    p += put;
    offset += put;
    bytes -= put;
  }
}

void SharedFile::close() {
  if (!allowed("fsync") || fsync(fd_) != 0) throw system_error("sync", path_);
  if (::close(std::exchange(fd_, -1)) != 0) throw system_error("close", path_);
}

InputFile::InputFile(fs::path path) : path_(std::move(path)), fd_(open_or_throw(path_, O_RDONLY, "read")) {
  struct stat info {};
  if (fstat(fd_, &info) != 0 || S_ISDIR(info.st_mode)) {
    if (S_ISDIR(info.st_mode)) errno = EISDIR;
    const int saved = errno;
    ::close(fd_);
    errno = saved;
    throw system_error("read", path_);
  }
  bytes_ = info.st_size;
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(i64 offset, void* data, i64 bytes) const {
  char* p = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = pread(fd_, p, static_cast<std::size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw system_error("read", path_);
    if (got == 0) {
      struct stat now {};
      const i64 end = fstat(fd_, &now) == 0 ? std::min<i64>(now.st_size, offset) : offset;
      throw user_error("{}: ends at byte {}, {} more were expected", path_.string(), end, offset + bytes - end);
    }
    p += got;
    offset += got;
    bytes -= got;
  }
}

void InputFile::forget_cached() const { posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

FileLock::FileLock(const fs::path& path, std::string_view what) : fd_(open_or_throw(path, O_RDWR | O_CREAT, "lock")) {
  const std::string pid = std::to_string(getpid());
  if (allowed("lock") && flock(fd_, LOCK_EX | LOCK_NB) == 0 && is_still_at(path, fd_) && ftruncate(fd_, 0) == 0 &&
      pwrite(fd_, pid.data(), pid.size(), 0) >= 0)
    return;
  const int why = errno;
  char owner[32] = {};
  const ssize_t got = pread(fd_, owner, sizeof owner - 1, 0);
  ::close(fd_);
  errno = why;
  if (why != EWOULDBLOCK) throw system_error("lock", path);
  throw user_error("{} is in use by process {}; wait for it to end, or choose another", what, got > 0 ? owner : "?");
}

FileLock::~FileLock() { ::close(fd_); }

bool FileLock::made(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && read_file(path).find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace xlstm
