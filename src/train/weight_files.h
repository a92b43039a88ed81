#pragma once
// The safetensors files that hold one model's weights: model.safetensors, or the parts that
// model.safetensors.index.json lists.
#include <memory>
#include <set>

#include "train/safetensors.h"

namespace xlstm {

class WeightFiles {
 public:
  // UserError naming file and tensor where files are missing, damaged or at odds with the index.
  explicit WeightFiles(const fs::path& folder);

  bool contains(const std::string& name) const { return file_of_.contains(name); }
  i64 tensors() const { return static_cast<i64>(file_of_.size()); }

  // Values as f32 into memory that is there. UserError naming file and tensor where it is missing, of another type or
  // shape, not finite, or does not fit the checksum that `checkpoint export` has left for it.
  void read(Tensor out, const std::string& name);

  // UserError naming the first tensor that was never read.
  void expect_all_read() const;

 private:
  void open(const fs::path& path);
  void follow_index(const fs::path& index);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;
  std::set<std::string> unread_;
};

}  // namespace xlstm
