#pragma once
// Lines of a ByteStream, with a bound on their length.
#include <cstring>
#include <string>

#include "data/byte_stream.h"
#include "data/utf8.h"

namespace xlstm {

class LineStream {
 public:
  LineStream(const fs::path& path, Compression compression)
      : stream_(path, compression), buffer_(std::size_t{1} << 18, '\0') {}

  // Appends the next line with its '\n' to `out`, no more than `limit` bytes of it (then cut between two characters,
  // and the next call goes on). False at the end.
  bool append_line(std::string& out, std::size_t limit) {
    const std::size_t start = out.size();
    for (;;) {
      if (begin_ == end_ && !refill()) break;
      const std::size_t room = std::min(end_ - begin_, limit - (out.size() - start));
      const void* newline = std::memchr(buffer_.data() + begin_, '\n', room);
      const std::size_t take =
          newline ? static_cast<std::size_t>(static_cast<const char*>(newline) - buffer_.data()) + 1 - begin_ : room;
      out.append(buffer_, begin_, take);
      begin_ += take;
      if (newline) break;
      if (out.size() - start == limit) {
        give_back(out, start);
        break;
      }
    }
    offset_ += static_cast<i64>(out.size() - start);
    return out.size() > start;
  }

  i64 offset() const { return offset_; }  // unpacked bytes given out so far
  i64 packed_bytes_read() const { return stream_.packed_bytes_read(); }

 private:
  bool refill() {
    end_ = stream_.read(buffer_.data() + kGiveBack, buffer_.size() - kGiveBack) + kGiveBack;
    begin_ = kGiveBack;
    return end_ > begin_;
  }

  // The beginning of a character at the end of a cut line goes back into the buffer.
  void give_back(std::string& out, std::size_t start) {
    const std::size_t whole = whole_characters(std::string_view(out).substr(start));
    const std::size_t excess = out.size() - start - whole;
    if (whole == 0) return;
    begin_ -= excess;
    std::memcpy(buffer_.data() + begin_, out.data() + start + whole, excess);
    out.resize(start + whole);
  }

  static constexpr std::size_t kGiveBack = 4;  // room before the buffer for the bytes of a character
  ByteStream stream_;
  std::string buffer_;
  std::size_t begin_ = kGiveBack, end_ = kGiveBack;
  i64 offset_ = 0;
};

}  // namespace xlstm
