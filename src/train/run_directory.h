#pragma once
// A run's folder (design: docs/run_directory.md): config.yaml, environment.json, metrics.jsonl, tokenizer.model,
// checkpoints/. One living process at a time.
#include <memory>

#include "core/json.h"
#include "dist/communicator.h"
#include "train/machine.h"
#include "train/run_data.h"

namespace xlstm {

class RunDirectory {
 public:
  // Makes the folder, or takes over one whose config agrees with `cfg` in everything that shapes the result. UserError
  // naming the first key that differs or is missing, or the process that uses the folder now, or because what is there
  // is no run; nothing is changed then. The folder is bound to the config by keep_config() alone, when all else is
  // known to be right: a mended config must not meet a wrong one there.
  RunDirectory(fs::path path, const TrainConfig& cfg);

  const fs::path& path() const { return path_; }
  fs::path checkpoints() const { return path_ / "checkpoints"; }
  fs::path metrics() const { return path_ / "metrics.jsonl"; }
  fs::path tokenizer() const { return path_ / "tokenizer.model"; }
  fs::path gemm_algorithms() const {
    return path_ / "gemm_algorithms.json";
  }  // of matrix products, as a GPU chose them

  // Of a run that has no checkpoint, which would know its data. UserError when its config was kept for other data.
  void check_data(const DataIdentity& data) const;
  void keep_config(const TrainConfig& cfg) const;  // as the first start resolved it
  // One entry per start of the program.
  void add_environment(const std::vector<std::string>& command_line, const Machine& machine, const Communicator& ranks,
                       const DataIdentity& data) const;
  void keep_tokenizer(const fs::path& model, const std::string& sha256);

 private:
  void check(const TrainConfig& cfg) const;

  fs::path path_;
  std::unique_ptr<FileLock> lock_;
};

// Of the last start of the run in that folder, as its environment.json has it.
DataIdentity recorded_data(const fs::path& run);

// The first key that two configs must share and do not: "optimizer.lr was 0.001, is 0.002", or "".
std::string conflicting_key(const std::string& old_yaml, const std::string& new_yaml);

}  // namespace xlstm
