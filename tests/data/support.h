#pragma once
// What the tests of the data layer share: a folder that goes away, small texts, a small tokenizer.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/file.h"
#include "data/tokenizer.h"

namespace xlstm {

class TempDir {
 public:
  TempDir();
  ~TempDir();
  fs::path operator/(const std::string& name) const { return path_ / name; }
  fs::path path() const { return path_; }

 private:
  fs::path path_;
};

void write_text(const fs::path& path, const std::string& text);
std::string gzip(const std::string& text);
std::string zstd(const std::string& text);

// `n` short, different documents of words, lines and code, with a few characters beyond ASCII.
std::vector<std::string> sample_documents(int n);

// Trained once on sample_documents, and its file.
const Tokenizer& sample_tokenizer();
fs::path sample_tokenizer_path();

// The message of the UserError that `f` throws; "" when it throws none.
template <class F>
std::string user_error_of(F&& f) {
  try {
    f();
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

}  // namespace xlstm
