#include "train/checkpoint_store.h"

#include <gmock/gmock.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct CheckpointStoreTest : TemporaryFolder {
  SmallRun run;

  void save(i64 step, Rotation rotation = {.keep = 10}) { save_checkpoint(dir, run.at_step(step), rotation); }
  std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(dir)) all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  }
  static void flip_last_byte(const fs::path& file) {
    std::string bytes = read_file(file);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    OutputFile(file).write(bytes);
  }
};

TEST_F(CheckpointStoreTest, SavesListsAndLoads) {
  save(5);
  save(123456789);
  EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000005", "step_123456789"));
  EXPECT_EQ(read_file(dir / "LATEST"), "step_123456789\n");
  i64 step = 0;
  EXPECT_EQ(what_is_wrong_after_loading(dir, step), "");
  EXPECT_EQ(step, 123456789);
  EXPECT_EQ(what_is_wrong_after_loading(dir / "step_00000005/", step), "");
  EXPECT_EQ(step, 5);
}

TEST_F(CheckpointStoreTest, ARunDirectoryAndItsCheckpointsFolderAreTheSame) {
  EXPECT_THROW(save_checkpoint(dir / "checkpoints", run.at_step(3), {}), UserError);
  EXPECT_TRUE(fs::is_empty(dir));
  fs::create_directory(dir / "checkpoints");
  EXPECT_THAT(list_checkpoints(dir), IsEmpty());
  save_checkpoint(dir / "checkpoints", run.at_step(3), {});
  EXPECT_THAT(list_checkpoints(dir), ElementsAre(dir / "checkpoints/step_00000003"));
  EXPECT_EQ(list_checkpoints(dir), list_checkpoints(dir / "checkpoints/"));
}

TEST_F(CheckpointStoreTest, RotationKeepsTheNewestAndEveryMth) {
  EXPECT_THAT(steps_to_remove({1, 2, 3, 4, 5}, {.keep = 2}, 5), ElementsAre(3, 2, 1));
  EXPECT_THAT(steps_to_remove({10, 20, 30, 40}, {.keep = 1, .keep_every = 20}, 40), ElementsAre(30, 10));
  EXPECT_THAT(steps_to_remove({10}, {.keep = 3, .keep_every = 20}, 10), IsEmpty());
  // 30 and 40 are damaged ones that the run went past: they neither count nor go, and 20 stays.
  EXPECT_THAT(steps_to_remove({5, 10, 20, 30, 40}, {.keep = 1}, 20), ElementsAre(10, 5));
  EXPECT_THAT(steps_to_remove({}, {.keep = 1}, 20), IsEmpty());

  for (i64 step = 1; step <= 7; ++step) save(step, {.keep = 2, .keep_every = 3});
  EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000003", "step_00000006", "step_00000007"));
}

TEST_F(CheckpointStoreTest, TheNewestGoodOneIsUsedAndTheOthersAreNamed) {
  for (const i64 step : {1, 2, 3}) save(step);
  flip_last_byte(dir / "step_00000003/optimizer-00000.safetensors");
  fs::remove(dir / "step_00000002/state.json");
  SmallRun loaded;
  const auto found = load_newest_checkpoint(dir, loaded.target());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 1);
  EXPECT_THAT(found->skipped,
              ElementsAre(HasSubstr("step_00000003/optimizer-00000.safetensors: tensor 'counts': expected xxh3"),
                          HasSubstr("step_00000002/state.json")));
  run.at_step(1);
  EXPECT_EQ(loaded.bits(), run.bits());
}

TEST_F(CheckpointStoreTest, AllDamagedIsAnErrorAndNoneIsNot) {
  SmallRun loaded;
  EXPECT_FALSE(load_newest_checkpoint(dir / "nowhere", loaded.target()));
  EXPECT_FALSE(load_newest_checkpoint(dir, loaded.target()));
  EXPECT_THROW(open_newest_checkpoint(dir), UserError);
  for (const i64 step : {1, 2}) {
    save(step);
    flip_last_byte(dir / fmt::format("step_{:08}/params.safetensors", step));
  }
  try {
    load_newest_checkpoint(dir, loaded.target());
    FAIL() << "the run would have started again";
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr("step_00000001"));
    EXPECT_THAT(e.what(), HasSubstr("step_00000002"));
  }
}

TEST_F(CheckpointStoreTest, ARefusedStateDoesNotFallBackToAnOlderCheckpoint) {
  for (const i64 step : {1, 2}) save(step);
  SmallRun loaded;
  LoadTarget target = loaded.target();
  int asked = 0;
  target.check_state = [&](const Json& state) {
    ++asked;
    throw user_error("data {} is not ours", state["fingerprints"]["data"].get<std::string>());
  };
  const std::string before = loaded.bits();
  EXPECT_THROW(load_newest_checkpoint(dir, target), UserError);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(loaded.bits(), before);
}

TEST_F(CheckpointStoreTest, LatestIsAHintAlone) {
  for (const i64 step : {1, 2}) save(step);
  i64 step = 0;
  for (const char* content : {"step_00000009\n", "step_00000001\n", "", "../../etc", "\xff\xfe"}) {
    OutputFile(dir / "LATEST").write(std::string_view(content));
    EXPECT_EQ(what_is_wrong_after_loading(dir, step), "");
    EXPECT_EQ(step, 2);
  }
  fs::remove(dir / "LATEST");
  EXPECT_EQ(what_is_wrong_after_loading(dir, step), "");
  EXPECT_EQ(step, 2);
  fs::create_directories(dir / "LATEST/inside");
  EXPECT_EQ(what_is_wrong_after_loading(dir, step), "");
  EXPECT_EQ(step, 2);
  save(3, {.keep = 1});  // which also rotates
  EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000003"));
}

TEST_F(CheckpointStoreTest, LeftoversAreRemovedAndOtherFilesAreNot) {
  save(1);
  for (const char* name : {"step_00000002.tmp-write", "step_00000000.tmp-remove", "step_notes", "mine"})
    fs::create_directories(dir / name / "inside");
  OutputFile(dir / "LATEST.tmp").write(std::string_view("step_"));
  EXPECT_THAT(list_checkpoints(dir), ElementsAre(dir / "step_00000001"));
  remove_leftovers(dir);
  EXPECT_THAT(names(), ElementsAre("LATEST", "mine", "step_00000001", "step_notes"));
}

TEST_F(CheckpointStoreTest, ADamagedCheckpointOfTheSameStepIsReplaced) {
  for (const i64 step : {1, 2}) save(step);
  for (const int no_exchange : {0, EINVAL}) {  // not every file system can exchange two names
    const HookScope hook([&](const char* call) { return std::string_view(call) == "exchange" ? no_exchange : 0; });
    flip_last_byte(dir / "step_00000002/params.safetensors");
    save(2);
    EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000001", "step_00000002"));
    i64 step = 0;
    EXPECT_EQ(what_is_wrong_after_loading(dir, step), "");
    EXPECT_EQ(step, 2);
  }
}

TEST_F(CheckpointStoreTest, ReadersGoOnWhileCheckpointsAreRotatedAway) {
  SmallRun before;
  save(1);
  const CheckpointReader opened(dir / "step_00000001");
  std::atomic<bool> end = false;
  std::vector<std::string> wrong(2);
  std::vector<std::thread> readers;
  for (std::string& why : wrong)
    readers.emplace_back([&] {
      i64 last = 0, step = 0;
      while (!end && why.empty()) {
        try {
          why = what_is_wrong_after_loading(dir, step);
        } catch (const UserError& e) {
          why = e.what();
        }
        if (step < last) why = "went back in time";
        last = step;
      }
    });
  for (i64 step = 2; step <= 60; ++step) save(step, {.keep = 1});
  end = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_THAT(wrong, ElementsAre("", ""));
  EXPECT_FALSE(fs::exists(dir / "step_00000001"));
  EXPECT_NO_THROW(opened.verify());
}

TEST_F(CheckpointStoreTest, WhatTheDiskGarblesNeverGetsTheNameOfACheckpoint) {
  save(1);
  int syncs = 0;
  const HookScope hook([&](const char* call) {
    if (std::string_view(call) == "fsync" && ++syncs == 2) {  // the weights are on the disk by now
      const fs::path file = dir / "step_00000002.tmp-write/params.safetensors";
      std::string bytes = read_file(file);
      bytes.back() = static_cast<char>(bytes.back() ^ 1);
      std::FILE* out = std::fopen(file.c_str(), "wb");
      std::fwrite(bytes.data(), 1, bytes.size(), out);
      std::fclose(out);
    }
    return 0;
  });
  EXPECT_THROW(save(2, {.keep = 1}), DamagedCheckpoint);
  EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000001"));
}

// Whether the file system exchanges two folders, or refuses as some do.
enum class Exchange : std::uint8_t { offered, refused };

int exchange_refused(const char* call) { return std::string_view(call) == "exchange" ? EINVAL : 0; }

// Calls body() in a process of its own that is killed at the call-th call that changes the disk. True when it got to
// the end before that.
template <class F>
bool survives(int call, Exchange exchange, F&& body) {
  const pid_t child = fork();
  if (child == 0) {
    int calls = 0;
    file_call_hook = [&](const char* name) {
      if (++calls == call) _exit(9);
      return exchange == Exchange::refused ? exchange_refused(name) : 0;
    };
    body();
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9)) << status;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class KilledTest : public CheckpointStoreTest, public testing::WithParamInterface<Exchange> {};
INSTANTIATE_TEST_SUITE_P(FileSystems, KilledTest, testing::Values(Exchange::offered, Exchange::refused),
                         [](const auto& p) { return p.param == Exchange::offered ? "exchange" : "renames"; });

TEST_P(KilledTest, AtAnyCallAGoodCheckpointIsThere) {
  const Rotation rotation{.keep = 1};
  i64 oldest_allowed = 1, step = 0;
  save(1, rotation);
  for (int call = 1;; ++call) {
    // The save at 2 removes the one at 1; the second save at 2 replaces the first.
    const bool complete = survives(call, GetParam(), [&] {
      remove_leftovers(dir);
      save(2, rotation);
      save(2, rotation);
    });
    if (GetParam() == Exchange::refused) remove_leftovers(dir);  // as the next start does before it looks
    ASSERT_EQ(what_is_wrong_after_loading(dir, step), "") << "killed at call " << call;
    ASSERT_GE(step, oldest_allowed) << "killed at call " << call;
    oldest_allowed = step;
    if (complete) {
      EXPECT_GT(call, 40);
      break;
    }
  }
  EXPECT_EQ(step, 2);
  EXPECT_THAT(names(), ElementsAre("LATEST", "step_00000002"));
}

TEST_F(CheckpointStoreTest, AnyCallThatFailsLeavesTheOlderOneAndNoRest) {
  const Rotation rotation{.keep = 2};
  save(1, rotation);
  for (int failing = 1;; ++failing) {
    int calls = 0;
    bool saved = true;
    {
      const HookScope hook([&](const char*) { return ++calls == failing ? ENOSPC : 0; });
      try {
        save(2, rotation);
      } catch (const UserError& e) {
        saved = false;
        EXPECT_THAT(e.what(), HasSubstr("No space left on device (free some space"));
      }
    }
    i64 step = 0;
    ASSERT_EQ(what_is_wrong_after_loading(dir, step), "") << "call " << failing;
    ASSERT_EQ(step, saved ? 2 : step) << "call " << failing;
    for (const std::string& name : names()) ASSERT_EQ(name.find(".tmp"), std::string::npos) << "call " << failing;
    if (calls < failing) break;
    fs::remove_all(dir / "step_00000002");
  }
}

}  // namespace
}  // namespace xlstm
