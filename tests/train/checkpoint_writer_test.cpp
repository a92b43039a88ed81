#include "train/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "core/memory.h"
#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

using ::testing::HasSubstr;

struct CheckpointWriterTest : TemporaryFolder {
  SmallRun run{64};
  Buffer memory{snapshot_bytes(run.at_step(0))};
  Arena snapshot() { return {"snapshot", memory.data(), memory.bytes()}; }
  Arena scratch{"scratch", memory.data(), 0};
  Context ctx{.scratch = &scratch};
};

TEST_F(CheckpointWriterTest, SavesWhatTheTensorsHeldWhenItWasAsked) {
  CheckpointWriter writer(ctx, dir / "checkpoints", {.keep = 2}, snapshot());
  for (i64 step = 1; step <= 4; ++step) {
    writer.save(run.at_step(step));
    run.params.fill(77);  // training goes on at once
    run.optimizer.fill(78);
  }
  writer.wait();
  const auto report = writer.poll();
  ASSERT_TRUE(report);
  EXPECT_EQ(report->step, 4);
  EXPECT_EQ(report->error, "");
  EXPECT_EQ(report->bytes, CheckpointReader(dir / "checkpoints/step_00000004").bytes());
  EXPECT_GT(report->seconds_writing, 0);
  EXPECT_FALSE(writer.poll());
  EXPECT_EQ(list_checkpoints(dir).size(), 2u);
  SmallRun loaded(64);
  const auto found = load_newest_checkpoint(dir, loaded.target());
  run.at_step(4);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 4);
  EXPECT_EQ(loaded.bits(), run.bits());
}

TEST_F(CheckpointWriterTest, TheSnapshotIsAsLargeAsItWasPlanned) {
  Buffer small(memory.bytes() - 1);
  CheckpointWriter writer(ctx, dir, {}, Arena("snapshot", small.data(), memory.bytes() - 1));
  EXPECT_THROW(writer.save(run.at_step(1)), Error);
}

TEST_F(CheckpointWriterTest, AFullDiskDoesNotStopTrainingAndTheNextSaveWorks) {
  CheckpointWriter writer(ctx, dir, {}, snapshot());
  writer.save(run.at_step(1));
  writer.wait();
  {
    const HookScope full([](const char* call) { return std::string_view(call) == "write" ? ENOSPC : 0; });
    EXPECT_NO_THROW(writer.save(run.at_step(2)));
    writer.wait();
    EXPECT_THAT(writer.last_error(), HasSubstr("No space left"));
    EXPECT_THAT(writer.poll()->error, HasSubstr("No space left"));
    EXPECT_THROW(writer.save_now(run.at_step(3)), UserError);
    EXPECT_EQ(list_checkpoints(dir).size(), 1u);
  }
  writer.save(run.at_step(4));
  writer.wait();
  EXPECT_EQ(writer.last_error(), "");
  EXPECT_EQ(open_newest_checkpoint(dir).step(), 4);
}

// The same with a limit that the kernel imposes, in place of the hook.
TEST_F(CheckpointWriterTest, AFileSizeLimitIsReportedAndLeavesNothing) {
  CheckpointWriter writer(ctx, dir, {}, snapshot());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  std::string why;
  {
    // Not in the background: the log of that failure may go to a file which is longer than the limit by now.
    const CheckpointContent content = run.at_step(1);
    const rlimit limited{1000, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
    try {
      writer.save_now(content);
    } catch (const UserError& e) {
      why = e.what();
    }
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  }
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(why, HasSubstr("File too large"));
  EXPECT_TRUE(fs::is_empty(dir));
  EXPECT_NO_THROW(writer.save_now(run.at_step(1)));
}

TEST_F(CheckpointWriterTest, ANewWriterClearsWhatAKilledOneLeft) {
  fs::create_directories(dir / "step_00000001.tmp-write");
  const CheckpointWriter writer(ctx, dir, {}, snapshot());
  EXPECT_TRUE(fs::is_empty(dir));
}

}  // namespace
}  // namespace xlstm
