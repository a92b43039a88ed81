#pragma once
// What the tests of the foundation share.
#include <gmock/gmock.h>

#include <stdexcept>
#include <string>

#include "core/file.h"

namespace xlstm {

// A folder that goes away with the test.
class FolderTest : public testing::Test {
 protected:
  FolderTest() {
    std::string name = (fs::temp_directory_path() / "xlstm_core_XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~FolderTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  fs::path path(const std::string& name) const { return folder_ / name; }

 private:
  fs::path folder_;
};

// The message of the UserError or Error that `f` throws; "" when it throws none.
template <class E = UserError, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

}  // namespace xlstm
