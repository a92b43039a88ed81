// xlstm bench loader and bench checkpoint: what reading data and saving cost
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/memory.h"
#include "core/text.h"
#include "data/loader.h"
#include "model/init.h"
#include "tools/bench.h"
#include "train/checkpoint_store.h"
#include "train/machine.h"
#include "train/memory.h"

namespace xlstm {

namespace {

struct LoaderBench {
  std::string data;
  i64 context = 1024, batch = 32, batches = 200;
  BenchOutput out;
};

constexpr i64 kMostAtOnce = i64{1} << 31;  // the product of two still fits into 64 bits

BenchResult bench_loader(const LoaderBench& o) {
  const Dataset data = Dataset::open(o.data);
  const LoaderOptions read_ahead;
  const i64 bytes_per_token = 3 * size_of(DType::i32) * (read_ahead.ahead + 2);  // one being read, one being used
  if (const i64 most = available_memory_bytes() / bytes_per_token; o.batch > most / o.context)
    throw user_error("--batch {} x --context {}: the memory available holds {} tokens at once", o.batch, o.context,
                     most);
  Loader loader(data, {.context_length = o.context, .batch_size = o.batch});
  TokenBatch batch;
  const Timer timer;
  for (i64 i = 0; i < o.batches; ++i) loader.next(batch);
  const double rate = static_cast<double>(o.batches) * static_cast<double>(o.batch * o.context) / timer.seconds();
  return {{{"bench", "loader"}, {"tokens_per_second", rate}, {"context_length", o.context}, {"batch_size", o.batch}},
          fmt::format("{} tokens/s, shuffled, {} sequences of {} at a time\n", human_count(rate), o.batch, o.context)};
}

struct CheckpointBench {
  std::string config, dir;
  std::vector<std::string> set;
  BenchOutput out;
};

// A folder with a name that nothing has yet; gone afterwards, with those above it that it needed.
struct FreshFolder {
  explicit FreshFolder(const fs::path& in) {
    for (fs::path missing = in; !missing.empty() && !fs::exists(missing); missing = missing.parent_path())
      made.push_back(missing);
    make_directory(in);
    std::string name = (in / "bench_checkpoint_XXXXXX").string();
    if (!mkdtemp(name.data())) throw user_error("cannot make a folder in {}: {}", in.string(), std::strerror(errno));
    path = name;
  }
  ~FreshFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    for (const fs::path& folder : made) fs::remove(folder, ignored);
  }
  FreshFolder(const FreshFolder&) = delete;
  FreshFolder& operator=(const FreshFolder&) = delete;
  fs::path path;
  std::vector<fs::path> made;  // deepest first
};

BenchResult bench_checkpoint(const CheckpointBench& o) {
  const TrainConfig cfg = load_train_config(o.config, o.set);
  TrainArenas arenas(measure_training(cfg, Device::cpu), nullptr);
  TrainState state(arenas, cfg);
  Context ctx = Machine().context(arenas.scratch);
  initialise(ctx, state.params, 1);
  const FreshFolder fresh(o.dir);
  const fs::path& dir = fresh.path;
  const CheckpointContent content{
      .step = 1, .params = state.named_params(), .optimizer = state.named_moments(), .state = Json::object()};
  const Timer saving;
  const i64 bytes = save_checkpoint(dir, content, {});
  const double save_seconds = saving.seconds();
  const Timer loading;
  load_newest_checkpoint(dir, {.params = state.named_params(), .optimizer = state.named_moments()});
  const double load_seconds = loading.seconds();
  const auto rate = [&](double seconds) { return static_cast<double>(bytes) / seconds; };
  return {{{"bench", "checkpoint"}, {"bytes", bytes}, {"save_seconds", save_seconds}, {"load_seconds", load_seconds}},
          fmt::format("{}: saved, synced and read back at {:.2f} GB/s, loaded and verified at {:.2f} GB/s\n",
                      human_bytes(bytes), rate(save_seconds) / 1e9, rate(load_seconds) / 1e9)};
}

}  // namespace

void add_bench_loader(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("loader", "Tokens per second that the data loader can give");
  auto o = std::make_shared<LoaderBench>();
  cmd->add_option("--data", o->data, "Folder made by 'xlstm data build'")->required()->check(not_empty("a folder"));
  cmd->add_option("--context", o->context, "Tokens per window")->check(at_least(1, kMostAtOnce))->capture_default_str();
  cmd->add_option("--batch", o->batch, "Windows per batch")->check(at_least(1, kMostAtOnce))->capture_default_str();
  cmd->add_option("--batches", o->batches, "Batches that are timed")->check(at_least(1))->capture_default_str();
  o->out.add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench loader --data data/quickstart");
  cmd->callback([o] { publish(bench_loader(*o), o->out.json, o->out.save); });
}

void add_bench_checkpoint(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("checkpoint", "Seconds to save and to load a checkpoint of a config's size");
  auto o = std::make_shared<CheckpointBench>();
  cmd->add_option("--config", o->config, "YAML file (configs/, bench/configs/)")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated");
  cmd->add_option("--dir", o->dir, "Folder on the disk to measure")->required()->check(not_empty("a folder"));
  o->out.add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench checkpoint --config bench/configs/small.yaml --dir runs");
  cmd->callback([o] { publish(bench_checkpoint(*o), o->out.json, o->out.save); });
}

}  // namespace xlstm
