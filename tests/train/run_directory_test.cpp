// A run's folder is a run's: others' folders are left alone, and damaged ones are told.
#include "train/run_directory.h"

#include <map>

#include "tests/support/mutate.h"
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

// Files below a folder, and what is in them.
std::map<std::string, std::string> content_of(const fs::path& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    found[entry.path().string()] = entry.is_directory() ? "" : read_file(entry.path());
  return found;
}

TEST(RunDirectory, FoldersThatAreNoRunStayAsTheyAre) {
  TempDir dir;
  write_text(dir / "configured/config.yaml", "a: 1\n");
  write_text(dir / "empty_config/config.yaml", "");
  for (const char* name : {"configured", "measured", "locked"}) {
    write_text(dir / name / "metrics.jsonl", "{\"mine\": 1}\n");
    write_text(dir / name / "environment.json", "{\"mine\": 1}\n");
  }
  write_text(dir / "locked/lock", "mine");
  const auto before = content_of(dir.path());
  for (const char* name : {"configured", "empty_config"})
    EXPECT_THAT(
        user_error_of([&] { run_in(dir / name, tiny_run()); }),
        testing::AllOf(testing::HasSubstr("config.yaml: expected the whole config"), testing::HasSubstr("--run")));
  for (const char* name : {"measured", "locked"})
    EXPECT_THAT(user_error_of([&] { run_in(dir / name, tiny_run()); }), testing::HasSubstr("holds something that is"));
  EXPECT_THAT(user_error_of([&] { run_in(tiny_dataset(), tiny_run()); }),
              testing::HasSubstr("holds something that is"));
  EXPECT_EQ(content_of(dir.path()), before);
}

// A start that failed, or checkpoints that were copied from elsewhere, are a run's.
TEST(RunDirectory, RunsWithoutAConfigAreGoneOnWith) {
  TempDir reference, dir;
  ASSERT_EQ(run_in(reference.path(), tiny_run()), RunOutcome::finished);
  write_text(dir / "begun/lock", "4711");
  fs::create_directories(dir / "begun/checkpoints");
  ASSERT_EQ(run_in(dir / "begun", tiny_run(), 6), RunOutcome::stopped);
  fs::create_directories(dir / "copied");
  fs::copy(dir / "begun/checkpoints", dir / "copied/checkpoints", fs::copy_options::recursive);
  ASSERT_EQ(run_in(dir / "copied", tiny_run()), RunOutcome::finished);
  EXPECT_EQ(final_weights(dir / "copied"), final_weights(reference.path()));
}

// Every instruction set that this machine has trains, to the same losses, and is told; another one is refused, with
// what is missing, but its checkpoints can be used.
TEST(RunDirectory, TheInstructionSetIsTheConfigs) {
  std::map<Precision, std::vector<double>> losses_of;
  for (const auto& [choice, isa] : {std::pair{CpuIsaChoice::avx2, CpuIsa::baseline},
                                    {CpuIsaChoice::avx512, CpuIsa::avx512},
                                    {CpuIsaChoice::amx, CpuIsa::amx}}) {
    TempDir dir;
    TrainConfig cfg = tiny_run();
    cfg.run.cpu_isa = choice;
    if (const std::string missing = missing_for(isa); !missing.empty()) {
      EXPECT_THAT(user_error_of([&] { run_in(dir.path(), cfg); }),
                  testing::AllOf(testing::HasSubstr("run.cpu_isa: "), testing::HasSubstr(missing)));
      EXPECT_EQ(if_there(choice), CpuIsaChoice::automatic);
      continue;
    }
    EXPECT_EQ(if_there(choice), choice);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      cfg.run.precision = precision;
      const fs::path run = dir / names_of(precision)[static_cast<std::size_t>(precision)];
      ASSERT_EQ(run_in(run, cfg), RunOutcome::finished);
      EXPECT_EQ(read_json(run / "environment.json").at("starts").at(0).at("instruction_set"), name_of(isa));
      const std::vector<double> losses = metric(run, "loss");
      std::vector<double>& first = losses_of[precision];
      if (first.empty()) first = losses;
      ASSERT_EQ(losses.size(), first.size());
      for (std::size_t i = 0; i < losses.size(); ++i)
        EXPECT_NEAR(losses[i], first[i], (precision == Precision::f32 ? 1e-5 : 3e-3) * first[i]) << name_of(isa) << i;
    }
  }
}

// An older version wrote fewer keys: those have their defaults.
TEST(RunDirectory, AConfigOfAnOlderVersionIsGoneOnWith) {
  TempDir dir;
  ASSERT_EQ(run_in(dir.path(), tiny_run(), 6), RunOutcome::stopped);
  std::string yaml = read_file(dir / "config.yaml");
  const std::size_t at = yaml.find("guard:");
  ASSERT_NE(at, std::string::npos);
  yaml.erase(at, yaml.find("log:") - at);
  write_text(dir / "config.yaml", yaml);
  EXPECT_EQ(run_in(dir.path(), tiny_run()), RunOutcome::finished);
}

// Whatever stands in the run's config.yaml: the run goes on as if nothing were, or one line says what is wrong.
TEST(RunDirectory, MutatedConfigsNeverCrash) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.resolve();
  RunDirectory(dir / "run", cfg).keep_config(cfg);
  const std::string whole = read_file(dir / "run/config.yaml");
  int refused = 0;
  for (std::uint64_t round = 0; round < 1000; ++round) {
    const std::string text = mutated(whole, kYamlWords, round);
    write_text(dir / "run/config.yaml", text);
    const std::string message = user_error_of([&] { RunDirectory(dir / "run", cfg); });
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_TRUE(message.empty() || message.find((dir / "run").string()) != std::string::npos) << message;
    refused += !message.empty();
    EXPECT_EQ(read_file(dir / "run/config.yaml"), text);
  }
  EXPECT_GT(refused, 700);
}

// Until there is a checkpoint, which knows its data, the run's folder does.
TEST(RunDirectory, ARunBegunOnOtherDataIsNotTakenOver) {
  TempDir dir;
  TrainConfig cfg = tiny_run(), other = tiny_run();
  other.data.train = (tiny_dataset() / "validation").string();
  cfg.resolve();
  { const Trainer killed_before_its_first_step(dir / "run", cfg, {"test"}); }
  const auto before = content_of(dir.path());
  EXPECT_THAT(user_error_of([&] { run_in(dir / "run", other); }),
              testing::AllOf(testing::HasSubstr("begun on data"), testing::HasSubstr("--run"),
                             testing::HasSubstr("no checkpoint yet")));
  EXPECT_EQ(content_of(dir.path()), before);
  fs::copy(tiny_dataset(), dir / "moved", fs::copy_options::recursive);
  other.data.train = (dir / "moved").string();
  ASSERT_EQ(run_in(dir / "run", other, 6), RunOutcome::stopped);
  EXPECT_EQ(read_json(dir / "run/environment.json").at("starts").size(), 2u);

  // Who deletes what would say so, may.
  other.data.train = (tiny_dataset() / "validation").string();
  fs::remove_all(dir / "run/checkpoints");
  fs::copy(dir / "run", dir / "other", fs::copy_options::recursive);
  fs::remove(dir / "run/environment.json");
  fs::remove(dir / "other/config.yaml");
  EXPECT_EQ(run_in(dir / "run", other), RunOutcome::finished);
  EXPECT_EQ(run_in(dir / "other", other), RunOutcome::finished);
}

// A tokenizer that is not the data set's gets nowhere: not into a run, where it would outlive the mended data set.
TEST(RunDirectory, KeepsTheTokenizerOfTheDataSetAlone) {
  TempDir dir;
  TrainConfig cfg = tiny_run();
  cfg.resolve();
  RunDirectory run(dir / "run", cfg);
  const std::string sha256 = Dataset::open(tiny_dataset()).tokenizer_sha256();
  write_text(dir / "other.model", "another");
  EXPECT_THAT(user_error_of([&] { run.keep_tokenizer(dir / "other.model", sha256); }),
              testing::HasSubstr("other.model is not the tokenizer"));
  EXPECT_FALSE(fs::exists(run.tokenizer()));
  run.keep_tokenizer(sample_tokenizer_path(), sha256);
  write_text(run.tokenizer(), "another");
  EXPECT_THAT(user_error_of([&] { run.keep_tokenizer(sample_tokenizer_path(), sha256); }),
              testing::HasSubstr("move it away"));
}

}  // namespace
}  // namespace xlstm
