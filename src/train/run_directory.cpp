#include "train/run_directory.h"

#include <algorithm>
#include <ctime>

#include "core/hash.h"
#include "core/log.h"
#include "train/checkpoint_store.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

// Keys that may change between two starts of a run. Only train.steps changes what comes after: the schedule stretches
// to the new end, which is what someone who extends a run asks for.
bool may_change(const std::string& key) {
  if (names_data_folder(key) || (key.starts_with("data.mixture.") && key.ends_with(".name"))) return true;
  for (const char* prefix : {"run.name", "run.threads", "run.device", "run.cpu_isa", "run.check", "run.cuda_graph",
                             "train.steps", "train.recompute", "parallel.shard_optimizer", "parallel.timeout",
                             "parallel.check_interval", "checkpoint.", "eval.", "guard.", "log."})
    if (key.starts_with(prefix)) return true;
  return false;
}

// The number of slots follows from the batch unless it is set: of two keys that differ, the other is the user's.
std::string first_conflict(const ConfigTree& before, const ConfigTree& now) {
  std::string conflict;
  for (const auto& [key, value] : now.values) {
    const auto it = before.values.find(key);
    if (it == before.values.end() || it->second.text == value.text || may_change(key)) continue;
    conflict = fmt::format("{} was {}, is {}", key, it->second.text, value.text);
    if (key != "parallel.reduction_slots") break;
  }
  return conflict;
}

// The config of a run, as it stands in its folder.
ConfigTree kept_config(const fs::path& file) {
  constexpr const char* kRemedy =
      "if this run's config was damaged, delete it and the next start writes it again; else name another folder with "
      "--run";
  const auto read = [&] {
    try {
      return ConfigTree::from_file(file.string());
    } catch (const UserError& e) {
      throw user_error("{}; {}", e.what(), kRemedy);
    }
  };
  ConfigTree kept = read();
  for (const char* key : {"run.seed", "model.embedding_dim", "optimizer.lr"})  // that every version has written
    if (!kept.values.contains(key))
      throw user_error("{}: expected the whole config of a run, found no '{}'; {}", file.string(), key, kRemedy);
  return kept;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

}  // namespace

DataIdentity recorded_data(const fs::path& run) {
  const fs::path file = run / "environment.json";
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  try {
    const Json starts = read_json(file).at("starts");
    const Json& start = starts.at(starts.size() - 1);
    return {.training = start.at("data"), .evaluation = start.at("evaluation_data")};
  } catch (const std::exception&) {  // damaged, which the next start tells, or of an older version
    return {};
  }
}

std::string conflicting_key(const std::string& old_yaml, const std::string& new_yaml) {
  return first_conflict(ConfigTree::from_text(old_yaml, "config.yaml"), ConfigTree::from_text(new_yaml, "config"));
}

RunDirectory::RunDirectory(fs::path path, const TrainConfig& cfg) : path_(std::move(path)) {
  check(cfg);  // before anything is made there
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) throw user_error("cannot make the run directory {}: {}", path_.string(), error.message());
  lock_ = std::make_unique<FileLock>(path_ / "lock", fmt::format("run directory {}", path_.string()));
  check(cfg);  // another process may have had it meanwhile
  make_directory(checkpoints());
}

// Without a config, it is a run's folder that holds nothing, the rest of a start that failed, or checkpoints.
void RunDirectory::check(const TrainConfig& cfg) const {
  std::error_code ignored;
  const fs::path file = path_ / "config.yaml";
  if (!fs::exists(file, ignored)) {
    if (fs::is_directory(path_, ignored) && !fs::is_empty(path_) && !FileLock::made(path_ / "lock") &&
        list_checkpoints(checkpoints()).empty())
      throw user_error("{}: holds something that is no run; name another folder with --run", path_.string());
    return;
  }
  const ConfigTree kept = kept_config(file);
  const ConfigTree now = ConfigTree::from_text(write_config(cfg), "config");
  if (const std::string conflict = first_conflict(kept, now); !conflict.empty())
    throw user_error("{} holds another run: {}; give this one a folder of its own with --run", path_.string(),
                     conflict);
}

void RunDirectory::keep_config(const TrainConfig& cfg) const {
  const fs::path file = path_ / "config.yaml";
  if (!fs::exists(file)) write_file_atomically(file, write_config(cfg));
}

void RunDirectory::check_data(const DataIdentity& data) const {
  std::error_code ignored;
  if (!fs::exists(path_ / "config.yaml", ignored)) return;
  if (const std::string was = recorded_data(path_).training; !was.empty() && was != data.training)
    throw user_error(
        "{}: cannot begin again, it was begun on data {:.16}, and this is {:.16}; name the same data, or another "
        "folder "
        "with --run, or delete this run, which has no checkpoint yet",
        path_.string(), was, data.training);
}

void RunDirectory::add_environment(const std::vector<std::string>& command_line, const Machine& machine,
                                   const Communicator& ranks, const DataIdentity& data) const {
  const fs::path file = path_ / "environment.json";
  Json starts = Json::array();
  if (fs::exists(file)) try {
      starts = read_json(file).at("starts").get_ref<const Json::array_t&>();
    } catch (const std::exception& e) {
      log_warning("{} cannot be read and begins anew; the old file is now {}", file.string(),
                  move_aside(file, "damaged").string());
    }
  Json entry = describe_environment(machine);
  entry["time"] = utc_now();
  entry["command"] = command_line;
  entry["ranks"] = ranks.size();
  Json hosts = Json::array();
  for (int r = 0; r < ranks.size(); ++r)
    if (std::find(hosts.begin(), hosts.end(), ranks.host(r)) == hosts.end()) hosts.push_back(ranks.host(r));
  if (ranks.size() > 1) entry["hosts"] = hosts;
  entry["data"] = data.training;
  entry["evaluation_data"] = data.evaluation;
  starts.push_back(entry);
  write_file_atomically(file, to_text({{"starts", starts}}, 2) + "\n");
}

void RunDirectory::keep_tokenizer(const fs::path& model, const std::string& sha256) {
  if (fs::exists(tokenizer())) {
    if (sha256_hex(read_file(tokenizer())) != sha256)
      throw user_error(
          "{} is not the tokenizer of the data set (sha256 {}); move it away, and the next start puts the right one "
          "there",
          tokenizer().string(), sha256);
    return;
  }
  const std::string bytes = read_file(model);
  if (sha256_hex(bytes) != sha256) throw user_error("{} is not the tokenizer of the data set any more", model.string());
  write_file_atomically(tokenizer(), bytes);
}

}  // namespace xlstm
