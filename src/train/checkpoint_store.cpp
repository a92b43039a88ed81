#include "train/checkpoint_store.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "core/log.h"
#include "train/shared_checkpoint.h"

namespace xlstm {

namespace {

constexpr const char *kLatest = "LATEST", *kBest = "BEST";
constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporary = ".tmp";

std::string name_of_step(i64 step) { return fmt::format("step_{:08}", step); }

std::optional<i64> step_of_name(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  i64 step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

// What LATEST or BEST says; "" if that cannot be a checkpoint.
std::string named_in(const fs::path& file) {
  std::string name;
  try {
    name = read_file(file);
  } catch (const UserError&) {  // a folder, say: as good as a wrong name
  }
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) name.pop_back();
  return step_of_name(name) ? name : "";
}

// Names in a folder. A folder that is not there, or goes away meanwhile, is empty.
std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  std::error_code gone;
  for (fs::directory_iterator it(dir, gone), end; !gone && it != end; it.increment(gone))
    names.push_back(it->path().filename().string());
  return names;
}

// Newest first. With a suffix: of the folders whose names end so.
std::vector<i64> steps_in(const fs::path& dir, std::string_view suffix = "") {
  std::vector<i64> steps;
  for (const std::string& name : names_in(dir)) {
    if (!name.ends_with(suffix)) continue;
    const std::string whole = name.substr(0, name.size() - suffix.size());
    if (const auto step = step_of_name(whole); step && whole == name_of_step(*step)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

// First out of sight under one name, then file by file: a folder with the name of a checkpoint is never half there.
void remove_checkpoint(const fs::path& folder) {
  const fs::path aside = folder.string() + ".tmp-remove";
  remove_tree(aside);
  rename_path(folder, aside);
  remove_tree(aside);
}

// Afterwards `aside` holds what was at `folder` before, if anything was.
void move_into_place(const fs::path& aside, const fs::path& folder) {
  if (fs::exists(folder))
    exchange_paths(aside, folder);
  else
    rename_path(aside, folder);
  fsync_directory(folder.parent_path());
}

// What a process left aside that was killed inside exchange_paths: the only copy when nothing has its name.
void put_back_exchanged(const fs::path& dir) {
  for (const i64 step : steps_in(dir, kExchangeSuffix)) {
    const fs::path folder = dir / name_of_step(step), aside = folder.string() + std::string(kExchangeSuffix);
    if (!fs::exists(folder)) rename_path(aside, folder);
  }
}

// use(reader) with the newest checkpoint for which it throws no DamagedCheckpoint; false when there is none at all.
template <class F>
bool with_newest(const fs::path& path, i64 up_to_step, Skipped report, std::vector<std::string>& skipped, F&& use) {
  constexpr int kTries = 20;  // a trainer may rotate a checkpoint away between our listing it and our opening it
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const std::vector<fs::path> folders = list_checkpoints(path, up_to_step);
    if (folders.empty()) return false;
    bool vanished = false;
    skipped.clear();
    for (const fs::path& folder : folders) {
      try {
        use(CheckpointReader(folder));
        if (report == Skipped::told) check_latest(folder.parent_path(), folders[0]);
        if (report == Skipped::told)
          for (const std::string& why : skipped) log_warning("checkpoint skipped: {}", why);
        return true;
      } catch (const DamagedCheckpoint& e) {
        vanished = vanished || !fs::exists(folder);
        skipped.push_back(e.what());
      }
    }
    if (!vanished) break;
  }
  throw none_verifies(path, skipped);
}

}  // namespace

// Says so when LATEST names something else than what is there: somebody copied or deleted by hand.
void check_latest(const fs::path& dir, const fs::path& newest) {
  std::error_code failed;
  const fs::path latest = dir / kLatest;
  if (!fs::exists(latest, failed)) return;
  const std::string name = named_in(latest);
  if (name.empty() || !fs::exists(dir / name, failed))
    log_warning("{} does not name a checkpoint that is there; the newest is {}", latest.string(),
                newest.filename().string());
}

UserError none_verifies(const fs::path& path, const std::vector<std::string>& skipped) {
  return user_error("no checkpoint in {} can be used: {} (restore one from a copy, or remove them to start again)",
                    path.string(), fmt::join(skipped, " | "));
}

std::vector<i64> steps_to_remove(std::vector<i64> steps, const Rotation& rotation, i64 saved,
                                 const std::vector<i64>& pinned) {
  XL_CHECK(rotation.keep >= 1 && rotation.keep_every >= 0, "keep {} and every {}-th", rotation.keep,
           rotation.keep_every);
  std::sort(steps.rbegin(), steps.rend());
  std::vector<i64> removed;
  i64 newer = 0;
  for (const i64 step : steps) {
    if (step > saved || newer++ < rotation.keep) continue;
    if (rotation.keep_every > 0 && step % rotation.keep_every == 0) continue;
    if (std::find(pinned.begin(), pinned.end(), step) != pinned.end()) continue;
    removed.push_back(step);
  }
  return removed;
}

namespace {

void write_and_verify(const fs::path& aside, const CheckpointContent& content, i64& bytes) {
  bytes = write_checkpoint(aside, content);
  const CheckpointReader written(aside);
  written.forget_cached();
  written.verify();
}

void tidy_up(const fs::path& dir, const fs::path& folder, const fs::path& aside, const Rotation& rotation,
             const CheckpointContent& content) {
  const auto tidy = [&](auto&& action) {
    try {
      action();
    } catch (const UserError& e) {
      log_warning("{} is saved, but tidying up failed: {}", folder.string(), e.what());
    }
  };
  tidy([&] { remove_tree(aside); });
  tidy([&] { write_file_atomically(dir / kLatest, folder.filename().string() + "\n"); });
  if (content.best) mark_best(dir, *content.best);
  tidy([&] {
    for (const i64 old : steps_to_remove(steps_in(dir), rotation, content.step, content.pinned))
      remove_checkpoint(dir / name_of_step(old));
  });
}

}  // namespace

i64 save_checkpoint(const fs::path& dir, const CheckpointContent& content, const Rotation& rotation,
                    Communicator* ranks) {
  const bool together = ranks && ranks->size() > 1, first = !ranks || ranks->first();
  const auto first_does = [&](const std::function<void()>& work) {
    if (!together) return work();
    ranks->together(
        "checkpoint", [&] { return first ? work() : void(); }, Channel::saving);
  };
  const fs::path folder = dir / name_of_step(content.step), aside = folder.string() + ".tmp-write";
  i64 bytes = 0;
  first_does([&] {
    std::error_code unknown;              // such as a stumbling network's
    if (!fs::is_directory(dir, unknown))  // made anew, it would part the run in two
      throw user_error("{}: is there no more; give the folder its name back, and the next save works", dir.string());
  });
  try {
    first_does([&] {
      remove_tree(aside);
      make_directory(aside);
      if (!together) write_and_verify(aside, content, bytes);
    });
    if (together) bytes = write_checkpoint_together(aside, content, *ranks);
    first_does([&] { move_into_place(aside, folder); });
  } catch (...) {
    std::error_code ignored;  // the first error is the one to tell
    if (first) fs::remove_all(aside, ignored);
    throw;
  }
  if (first) tidy_up(dir, folder, aside, rotation, content);
  return bytes;
}

void remove_checkpoints_after(const fs::path& dir, i64 step) {
  try {
    for (const i64 later : steps_in(dir))
      if (later > step) remove_checkpoint(dir / name_of_step(later));
    std::error_code none;
    if (const std::string best = named_in(dir / kBest); !best.empty() && !fs::exists(dir / best, none))
      remove_tree(dir / kBest);
    if (fs::exists(dir / name_of_step(step))) write_file_atomically(dir / kLatest, name_of_step(step) + "\n");
  } catch (const UserError& e) {
    log_warning("checkpoints of steps that are made again could not be removed: {}", e.what());
  }
}

void mark_best(const fs::path& dir, i64 step) {
  try {
    if (named_in(dir / kBest) == name_of_step(step)) return;
    write_file_atomically(dir / kBest, name_of_step(step) + "\n");
  } catch (const UserError& e) {
    log_warning("{}; the best checkpoint is that of step {}", e.what(), step);
  }
}

bool has_checkpoint(const fs::path& dir, i64 step) {
  std::error_code none;
  return fs::exists(dir / name_of_step(step), none);
}

void remove_leftovers(const fs::path& dir) {
  put_back_exchanged(dir);
  for (const std::string& name : names_in(dir))
    if (name.find(kTemporary) != std::string::npos &&
        (name.starts_with(kPrefix) || name.starts_with(kLatest) || name.starts_with(kBest)))
      remove_tree(dir / name);
}

UserError no_checkpoint(const fs::path& path) {
  return user_error("no checkpoint in {}; expected a run directory, its checkpoints folder, or one checkpoint",
                    path.string());
}

std::vector<fs::path> list_checkpoints(fs::path path) {
  if (path.filename().empty()) path = path.parent_path();  // a trailing slash
  if (path.filename() == kLatest || path.filename() == kBest)
    if (const std::string name = named_in(path); !name.empty()) path = path.parent_path() / name;
  if (fs::exists(path / "manifest.json") || (step_of_name(path.filename().string()) && fs::exists(path))) return {path};
  if (fs::is_directory(path / "checkpoints")) path /= "checkpoints";
  std::vector<fs::path> folders;
  for (const i64 step : steps_in(path)) folders.push_back(path / name_of_step(step));
  return folders;
}

std::vector<fs::path> list_checkpoints(const fs::path& path, i64 up_to_step) {
  std::vector<fs::path> folders = list_checkpoints(path);
  std::erase_if(folders, [&](const fs::path& folder) {
    return step_of_name(folder.filename().string()).value_or(0) > up_to_step;
  });
  return folders;
}

std::optional<LoadedCheckpoint> load_newest_checkpoint(const fs::path& path, const LoadTarget& target,
                                                       Communicator* ranks) {
  if (ranks && ranks->size() > 1) return load_newest_together(path, target, *ranks);
  LoadedCheckpoint loaded;
  const bool found =
      with_newest(path, target.up_to_step, Skipped::told, loaded.skipped, [&](const CheckpointReader& reader) {
        if (target.check_state) target.check_state(reader.state());
        reader.read_params(target.params);
        if (target.with_optimizer) reader.read_optimizer(target.optimizer);
        loaded.folder = reader.folder();
        loaded.step = reader.step();
        loaded.state = reader.state();
        loaded.weights_sha256 = reader.weights_sha256();
      });
  if (!found) return std::nullopt;
  return loaded;
}

CheckpointReader open_newest_checkpoint(const fs::path& path, Skipped report) {
  std::optional<CheckpointReader> newest;
  std::vector<std::string> skipped;
  const auto take = [&](CheckpointReader&& reader) { newest.emplace(std::move(reader)); };
  if (!with_newest(path, LoadTarget{}.up_to_step, report, skipped, take)) throw no_checkpoint(path);
  return std::move(*newest);
}

}  // namespace xlstm
