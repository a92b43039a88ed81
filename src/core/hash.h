#pragma once
// xxh3 tells damaged bytes from whole ones, fast; sha256 names things that people compare.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace xlstm {

std::string xxh3_hex(const void* data, std::size_t bytes);  // 128 bits, 32 hex digits
std::string sha256_hex(std::string_view bytes);

// The same digests over data that arrives in pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  void update(const void* data, std::size_t bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(const void* data, std::size_t bytes);
  std::string hex();  // once, at the end

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace xlstm
