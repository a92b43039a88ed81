#include "data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace xlstm {

// One step of unpacking: consumes some of `in`, fills some of `out`.
struct ByteStream::Codec {
  struct Step {
    std::size_t consumed, produced;
    const char* error;  // nullptr when all is well
  };
  virtual ~Codec() = default;
  virtual Step step(std::string_view in, char* out, std::size_t capacity) = 0;
  virtual bool between_members() const = 0;  // the packed data may end here
};

namespace {

struct PlainCodec final : ByteStream::Codec {
  Step step(std::string_view in, char* out, std::size_t capacity) override {
    const std::size_t n = std::min(in.size(), capacity);
    std::memcpy(out, in.data(), n);
    return {n, n, nullptr};
  }
  bool between_members() const override { return true; }
};

// Several gzip members in a row are one stream, as gzip itself has it.
struct GzipCodec final : ByteStream::Codec {
  z_stream z{};
  bool between = true;
  GzipCodec() { XL_CHECK(inflateInit2(&z, 15 + 16) == Z_OK, "zlib: cannot start"); }
  ~GzipCodec() override { inflateEnd(&z); }
  Step step(std::string_view in, char* out, std::size_t capacity) override {
    if (between) {
      if (in.empty()) return {0, 0, nullptr};
      inflateReset(&z);
      between = false;
    }
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(out);
    z.avail_out = static_cast<uInt>(std::min<std::size_t>(capacity, 1u << 30));
    const uInt room = z.avail_out;
    const int result = inflate(&z, Z_NO_FLUSH);
    if (result == Z_STREAM_END) between = true;
    const bool fine = result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR;
    return {in.size() - z.avail_in, room - z.avail_out, fine ? nullptr : z.msg ? z.msg : "damaged"};
  }
  bool between_members() const override { return between; }
};

struct ZstdCodec final : ByteStream::Codec {
  ZSTD_DStream* stream = ZSTD_createDStream();
  bool between = true;
  ~ZstdCodec() override { ZSTD_freeDStream(stream); }
  Step step(std::string_view in, char* out, std::size_t capacity) override {
    ZSTD_inBuffer source{in.data(), in.size(), 0};
    ZSTD_outBuffer target{out, capacity, 0};
    const std::size_t result = ZSTD_decompressStream(stream, &target, &source);
    if (ZSTD_isError(result)) return {source.pos, target.pos, ZSTD_getErrorName(result)};
    if (source.pos > 0 || target.pos > 0) between = result == 0;
    return {source.pos, target.pos, nullptr};
  }
  bool between_members() const override { return between; }
};

std::unique_ptr<ByteStream::Codec> make_codec(Compression compression) {
  switch (compression) {
    case Compression::gzip: return std::make_unique<GzipCodec>();
    case Compression::zstd: return std::make_unique<ZstdCodec>();
    case Compression::none: break;
  }
  return std::make_unique<PlainCodec>();
}

}  // namespace

ByteStream::ByteStream(const fs::path& path, Compression compression)
    : path_(path), codec_(make_codec(compression)), buffer_(std::size_t{1} << 18, '\0') {
  fd_ = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw user_error("cannot read {}: {}", name_of_input(path), std::strerror(errno));
}

ByteStream::~ByteStream() { ::close(fd_); }

void ByteStream::refill() {
  ssize_t got;
  do got = ::read(fd_, buffer_.data(), buffer_.size());
  while (got < 0 && errno == EINTR);
  if (got < 0) throw user_error("cannot read {}: {}", name_of_input(path_), std::strerror(errno));
  begin_ = 0;
  end_ = static_cast<std::size_t>(got);
  packed_offset_ += got;
  file_ended_ = got == 0;
}

std::size_t ByteStream::read(char* to, std::size_t capacity) {
  for (;;) {
    if (begin_ == end_ && !file_ended_) refill();
    const std::string_view in(buffer_.data() + begin_, end_ - begin_);
    const Codec::Step step = codec_->step(in, to, capacity);
    begin_ += step.consumed;
    const i64 at = packed_offset_ - static_cast<i64>(end_ - begin_);
    if (step.error)
      throw user_error("{}: damaged at byte {} ({}); fetch the file again", name_of_input(path_), at, step.error);
    if (step.produced > 0) return step.produced;
    if (file_ended_ && begin_ == end_) {
      if (codec_->between_members()) return 0;
      throw user_error("{}: cut off at byte {}, in the middle of the compressed data; fetch the file again",
                       name_of_input(path_), at);
    }
  }
}

}  // namespace xlstm
