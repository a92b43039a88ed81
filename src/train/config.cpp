#include "train/config.h"

#include <algorithm>
#include <bit>

#include "core/parallel.h"

namespace xlstm {

namespace {

constexpr i64 kMost = i64{1} << 31;  // of what is counted in a batch: products of two still fit into 64 bits
constexpr i64 kMostTokens = i64{1} << 62;
constexpr i64 kMostOfWindow = i64{1} << 16;  // numbers in every checkpoint
constexpr double kMostSigmas = 1e6;
constexpr i64 kMostSampled = i64{1} << 20;

void require_at_least(i64 value, i64 least, const char* key) {
  if (value < least) throw user_error("{}: is {}; at least {} is needed", key, value, least);
}

void require_between(i64 value, i64 least, i64 most, const char* key) {
  require_at_least(value, least, key);
  if (value > most) throw user_error("{}: is {}; at most {} is possible", key, value, most);
}

void check_guard(const TrainConfig& c) {
  const GuardConfig& g = c.guard;
  if (!(g.sigmas >= 0 && g.sigmas <= kMostSigmas))
    throw user_error("guard.sigmas: is {}; 0 (norms of any size) to {} is expected", g.sigmas, kMostSigmas);
  require_between(g.window, 2, kMostOfWindow, "guard.window");
  require_at_least(g.max_skips, 0, "guard.max_skips");
  require_at_least(g.max_rollbacks, 0, "guard.max_rollbacks");
  require_at_least(g.keep, 0, "guard.keep");
  if (g.action == GuardAction::rollback && c.checkpoint.every == 0)
    throw user_error("guard.action: rollback goes back to a checkpoint, and checkpoint.every: 0 makes none; set both");
}

void check_eval(const TrainConfig& c) {
  const EvalConfig& e = c.eval;
  require_at_least(e.every, 0, "eval.every");
  require_at_least(e.batches, 0, "eval.batches");
  require_between(e.sample_tokens, 1, kMostSampled, "eval.sample_tokens");
  if (!(e.temperature >= 0)) throw user_error("eval.temperature: is {}; 0 or more is expected", e.temperature);
  for (const auto& [name, folder] : e.sets) {
    if (!is_name(name) || name == "validation" || name == "train")
      throw user_error(
          "eval.sets: '{}' is no name for a set; small letters, digits, - and _ are, but not 'train' and "
          "'validation', which is data.validation",
          name);
    if (folder.empty()) throw user_error("eval.sets.{}: is empty; name a folder made by 'xlstm data build'", name);
  }
  if (!e.prompts.empty() && e.sets.empty() && c.data.validation.empty())
    throw user_error("eval.prompts: are gone on from at evaluations; set data.validation or eval.sets, too");
}

i64 default_slots(i64 micro_batches) {
  i64 slots = 8;
  while (micro_batches % slots != 0) slots /= 2;
  return slots;
}

void resolve_batch(TrainConfig& c) {
  const TrainSection& t = c.train;
  if (t.batch_size % t.micro_batch_size != 0)
    throw user_error("train.batch_size: {} is not a multiple of train.micro_batch_size {}", t.batch_size,
                     t.micro_batch_size);
  i64& slots = c.parallel.reduction_slots;
  if (slots == 0) slots = default_slots(c.micro_batches());
  if (!std::has_single_bit(static_cast<std::uint64_t>(slots)))
    throw user_error("parallel.reduction_slots: {} is not a power of two", slots);
  if (c.micro_batches() % slots != 0)
    throw user_error(
        "parallel.reduction_slots: the {} micro-batches of an update (batch_size / micro_batch_size) do not divide "
        "into "
        "{} slots",
        c.micro_batches(), slots);
}

bool is_of(const std::string& key, const std::string& section) {
  return key == section || key.starts_with(section + ".");
}

bool names(const ConfigTree& layer, const std::string& key) {
  return std::any_of(layer.values.begin(), layer.values.end(),
                     [&](const auto& value) { return is_of(value.first, key) && !value.second.text.empty(); });
}

void take_out(ConfigTree& tree, const std::string& key) {
  const auto is_there = [&](const auto& entry) { return is_of(entry.first, key); };
  std::erase_if(tree.values, is_there);
  std::erase_if(tree.sections, is_there);
  std::erase_if(tree.lists, [&](const std::string& list) { return is_of(list, key); });
}

// What comes later overrides. data.train and data.mixture stand for each other, so the later of them is meant.
void add_layer(ConfigTree& tree, const ConfigTree& layer) {
  const bool train = names(layer, "data.train"), mixture = names(layer, "data.mixture");
  if (train && !mixture) take_out(tree, "data.mixture");
  if (mixture && !train) take_out(tree, "data.train");
  tree.overlay(layer);
}

ConfigTree layer_of(const std::string& assignment) {
  if (assignment.starts_with("@")) return ConfigTree::from_file(assignment.substr(1));
  ConfigTree layer;
  layer.set(assignment);
  return layer;
}

}  // namespace

bool is_name(const std::string& name) {
  return !name.empty() && name.find_first_not_of(kNameCharacters) == std::string::npos;
}

void TrainConfig::resolve() {
  model.check();
  data.check();
  require_at_least(run.seed, 0, "run.seed");
  require_between(run.threads, 0, kMostThreads, "run.threads");
  require_between(train.steps, 1, kMost, "train.steps");
  require_between(train.batch_size, 1, kMost, "train.batch_size");
  require_between(train.micro_batch_size, 1, kMost, "train.micro_batch_size");
  require_between(train.context_length, 1, kMost, "train.context_length");
  require_at_least(parallel.reduction_slots, 0, "parallel.reduction_slots");
  require_at_least(parallel.timeout, 1, "parallel.timeout");
  require_at_least(parallel.check_interval, 0, "parallel.check_interval");
  require_at_least(checkpoint.every, 0, "checkpoint.every");
  require_at_least(checkpoint.keep, 1, "checkpoint.keep");
  require_at_least(checkpoint.keep_every, 0, "checkpoint.keep_every");
  check_eval(*this);
  check_guard(*this);
  require_at_least(log.every, 1, "log.every");
  if (micro_batch_rows() > kMost)
    throw user_error("train.micro_batch_size: {} x context_length {} tokens at once; at most {} are possible",
                     train.micro_batch_size, train.context_length, kMost);
  if (train.batch_size > kMostTokens / train.steps / train.context_length)
    throw user_error("train.steps: {} x batch_size {} x context_length {} are more tokens than can be counted",
                     train.steps, train.batch_size, train.context_length);
  optimizer.check();
  schedule.check(train.steps);
  resolve_batch(*this);
}

void TrainConfig::check_startable() const {
  if (run.name.empty() || run.name == "." || run.name == ".." || run.name.find('/') != std::string::npos)
    throw user_error("run.name: is '{}'; expected a name of one folder (--run takes any path)", run.name);
}

TrainConfig load_train_config(const std::string& path, const std::vector<std::string>& assignments,
                              const std::optional<std::string>& text) {
  if (path.empty()) throw user_error("--config: is empty; name a YAML file");
  ConfigTree tree = text ? ConfigTree::from_text(*text, "stdin") : ConfigTree::from_file(path);
  for (const std::string& assignment : assignments) add_layer(tree, layer_of(assignment));
  TrainConfig config = read_config<TrainConfig>(tree);
  try {
    config.resolve();
    config.check_startable();
  } catch (const UserError& e) {  // "key: what is wrong with it"
    const std::string what = e.what(), where = tree.where_set(what.substr(0, what.find(':')));
    throw user_error("{}: {}", where.empty() ? path : where, what);
  }
  return config;
}

}  // namespace xlstm
