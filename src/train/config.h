#pragma once
// Everything that a training run can be told. Sections and names: docs/config.md. Defaults live here; YAML files hold
// only differences.
#include <optional>

#include "data/packing.h"
#include "model/config.h"
#include "model/saved.h"
#include "optim/adamw.h"
#include "optim/schedule.h"

namespace xlstm {

enum class DeviceChoice : std::uint8_t { automatic, cpu, cuda };
constexpr auto names_of(DeviceChoice) { return std::array{"auto", "cpu", "cuda"}; }
enum class Precision : std::uint8_t { f32, bf16 };
constexpr auto names_of(Precision) { return std::array{"f32", "bf16"}; }
enum class CpuIsaChoice : std::uint8_t { automatic, avx2, avx512, amx };
constexpr auto names_of(CpuIsaChoice) { return std::array{"auto", "avx2", "avx512", "amx"}; }
enum class Check : std::uint8_t { none, full };
constexpr auto names_of(Check) { return std::array{"none", "full"}; }
enum class Reduction : std::uint8_t { exact, fast };
constexpr auto names_of(Reduction) { return std::array{"exact", "fast"}; }

enum class GemmAlgorithms : std::uint8_t { timed, heuristic };
constexpr auto names_of(GemmAlgorithms) { return std::array{"timed", "heuristic"}; }

struct RunConfig {
  std::string name = "xlstm";
  i64 seed = 1;
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::f32;
  CpuIsaChoice cpu_isa = CpuIsaChoice::automatic;
  CellKernel cell_kernel = CellKernel::automatic;  // on a GPU
  i64 threads = 0;                                 // 0 = every usable core
  Check check = Check::none;
  bool cuda_graph = false;                                 // on a GPU: a step is recorded once and repeated
  GemmAlgorithms gemm_algorithms = GemmAlgorithms::timed;  // on a GPU
};
void visit(auto& v, RunConfig& c) {
  v("name", c.name);
  v("seed", c.seed);
  v("device", c.device);
  v("precision", c.precision);
  v("cpu_isa", c.cpu_isa);
  v("cell_kernel", c.cell_kernel);
  v("threads", c.threads);
  v("check", c.check);
  v("cuda_graph", c.cuda_graph);
  v("gemm_algorithms", c.gemm_algorithms);
}

// A name of the user's that becomes part of the names of fields.
constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_-";
bool is_name(const std::string& name);

// A data set of a mixture.
struct MixtureEntry {
  std::string path;
  double weight = 1;   // share of the sequences, relative to the others'
  std::string name{};  // in metrics; "": as the folder is called
};
void visit(auto& v, MixtureEntry& c) {
  v("path", c.path);
  v("weight", c.weight);
  v("name", c.name);
}

struct DataConfig {
  std::string train, validation;        // folders made by `xlstm data build`; validation may be empty
  std::vector<MixtureEntry> mixture{};  // of such folders, instead of `train`
  Packing packing = Packing::concat;    // of the training data; evaluation reads windows

  // The mixture, with every name filled in; or `train` alone.
  std::vector<MixtureEntry> training_sets() const;
  std::string key_of_set(std::size_t set) const;                            // "data.train" or "data.mixture.1.path"
  static std::string mixture_key(std::size_t set, const std::string& key);  // "data.mixture.1.weight"
  void check() const;                                                       // UserError that names the key
};
void visit(auto& v, DataConfig& c) {
  v("train", c.train);
  v("validation", c.validation);
  v("mixture", c.mixture);
  v("packing", c.packing);
}

// Whether a key names a folder of data: it may lie elsewhere on another host, or at another time.
bool names_data_folder(const std::string& key);

struct TrainSection {
  i64 steps = 1000;
  i64 batch_size = 32;       // sequences of one update, over all ranks
  i64 micro_batch_size = 8;  // sequences of one forward and backward pass
  i64 context_length = 1024;
  Recompute recompute = Recompute::none;
};
void visit(auto& v, TrainSection& c) {
  v("steps", c.steps);
  v("batch_size", c.batch_size);
  v("micro_batch_size", c.micro_batch_size);
  v("context_length", c.context_length);
  v("recompute", c.recompute);
}

struct ParallelConfig {
  i64 reduction_slots = 0;  // a power of two; 0 = the largest up to 8 that the micro-batches of an update divide into
  Reduction reduction = Reduction::exact;
  bool shard_optimizer = true;  // with several ranks
  i64 timeout = 600;            // seconds that a collective may take; with several ranks
  i64 check_interval = 500;     // steps between comparisons of the ranks' weights; with several ranks
};
void visit(auto& v, ParallelConfig& c) {
  v("reduction_slots", c.reduction_slots);
  v("reduction", c.reduction);
  v("shard_optimizer", c.shard_optimizer);
  v("timeout", c.timeout);
  v("check_interval", c.check_interval);
}

struct CheckpointConfig {
  i64 every = 500;     // steps; 0 = only at the end
  i64 keep = 2;        // newest ones
  i64 keep_every = 0;  // and those at multiples of this step; 0 = none
};
void visit(auto& v, CheckpointConfig& c) {
  v("every", c.every);
  v("keep", c.keep);
  v("keep_every", c.keep_every);
}

struct EvalConfig {
  i64 every = 500;                            // steps; 0 = only at the end
  i64 batches = 16;                           // micro-batches of each set, always the same ones; 0 = all of it
  std::map<std::string, std::string> sets{};  // further sets by name: folders, as data.validation
  std::vector<std::string> prompts{};         // gone on from at each evaluation
  i64 sample_tokens = 64;                     // new ones of each at most
  double temperature = 0.8;                   // of these samples
};
void visit(auto& v, EvalConfig& c) {
  v("every", c.every);
  v("batches", c.batches);
  v("sets", c.sets);
  v("prompts", c.prompts);
  v("sample_tokens", c.sample_tokens);
  v("temperature", c.temperature);
}

enum class GuardAction : std::uint8_t { stop, rollback };
constexpr auto names_of(GuardAction) { return std::array{"stop", "rollback"}; }

struct GuardConfig {
  double sigmas = 8;   // largest gradient norm, in standard deviations of its logarithm over the window; 0 = any
  i64 window = 128;    // accepted updates; before there are so many, norms of any size are
  i64 max_skips = 10;  // updates skipped in a row before the guard acts
  GuardAction action = GuardAction::stop;
  i64 max_rollbacks = 3;  // without another good checkpoint in between
  i64 keep = 4;           // rows of skipped updates whose evidence stays
};
void visit(auto& v, GuardConfig& c) {
  v("sigmas", c.sigmas);
  v("window", c.window);
  v("max_skips", c.max_skips);
  v("action", c.action);
  v("max_rollbacks", c.max_rollbacks);
  v("keep", c.keep);
}

struct LogConfig {
  i64 every = 10;        // steps between lines on the console
  bool profile = false;  // time per operator class, told at the end
};
void visit(auto& v, LogConfig& c) {
  v("every", c.every);
  v("profile", c.profile);
}

struct TrainConfig {
  RunConfig run;
  ModelConfig model;
  DataConfig data;
  TrainSection train;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  GuardConfig guard;
  LogConfig log;

  // Fills in what 0 leaves open, and refuses what does not fit together (UserError naming the keys).
  void resolve();
  // Refuses what cannot be started here. A model that was trained elsewhere can still be read.
  void check_startable() const;

  i64 micro_batches() const { return train.batch_size / train.micro_batch_size; }  // of one update
  i64 micro_batches_per_slot() const { return micro_batches() / parallel.reduction_slots; }
  i64 micro_batch_rows() const { return train.micro_batch_size * train.context_length; }
  i64 tokens_per_step() const { return train.batch_size * train.context_length; }
};
void visit(auto& v, TrainConfig& c) {
  v("run", c.run);
  v("model", c.model);
  v("data", c.data);
  v("train", c.train);
  v("optimizer", c.optimizer);
  v("schedule", c.schedule);
  v("parallel", c.parallel);
  v("checkpoint", c.checkpoint);
  v("eval", c.eval);
  v("guard", c.guard);
  v("log", c.log);
}

// From a YAML file and `--set key=value` assignments, resolved.
// `text`: what '-' stands for, where somebody else has read it.
TrainConfig load_train_config(const std::string& path, const std::vector<std::string>& assignments,
                              const std::optional<std::string>& text = std::nullopt);

}  // namespace xlstm
