#pragma once
// What the tests of data sets and of their builds share.
#include <map>

#include "data/dataset.h"
#include "data/dataset_builder.h"
#include "tests/data/support.h"

namespace xlstm {

// Every file below a folder and its bytes, but for the record of how it was built.
inline std::map<std::string, std::string> content_of(const fs::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != "build.json")
      out[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return out;
}

class DatasetTest : public testing::Test {
 protected:
  DatasetBuild build_of(const std::vector<std::string>& inputs, const std::string& out) {
    DatasetBuild build;
    build.inputs = inputs;
    build.tokenizer = sample_tokenizer_path();
    build.out = dir_ / out;
    build.validation_fraction = 0.1;
    return build;
  }

  // The documents as JSON lines and as a txt with separators.
  std::string json_file(int documents) {
    std::string text;
    for (const std::string& d : sample_documents(documents)) text += Json{{"text", d}}.dump() + "\n";
    write_text(dir_ / "in.jsonl", text);
    return (dir_ / "in.jsonl").string();
  }

  std::vector<std::string> documents_of(const fs::path& folder) {
    const Dataset data = Dataset::open(folder);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(data.total_tokens()));
    data.read(0, data.total_tokens(), ids.data());
    std::vector<std::string> out;
    std::vector<int> document;
    for (const int id : ids)
      if (id == data.eod_id())
        out.push_back(sample_tokenizer().decode(std::exchange(document, {})));
      else
        document.push_back(id);
    EXPECT_TRUE(document.empty());
    return out;
  }

  TempDir dir_;
};

}  // namespace xlstm
