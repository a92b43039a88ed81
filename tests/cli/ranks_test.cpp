// The program under mpirun: what ranks say and keep as processes, and how they are told to stop. What they compute is
// tests/train/ranks_test.cpp's.
#include <csignal>

#include "tests/cli/mpi_run.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST_F(MpiRun, AnyNumberOfRanksHasTheSameBitsAlsoResumed) {
  const auto eight = [](const Arguments& more = {}) {
    Arguments all = shared({"--set", "train.batch_size=8"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  must_run(train("one", eight()));
  for (const int ranks : {2, 4, 8}) {
    const Ended ended = run_on(ranks, train(fmt::format("of{}", ranks), eight()));
    ASSERT_EQ(ended.code, 0) << ended.err;
  }
  ASSERT_EQ(run_on(4, train("parts", eight({"--stop-at", "3"}))).code, 75);
  ASSERT_EQ(run(train("parts", eight({"--stop-at", "7"}))).code, 75);
  ASSERT_EQ(run_on(2, train("parts", eight())).code, 0);
  for (const char* name : {"of2", "of4", "of8", "parts"}) {
    EXPECT_EQ(weights(name), weights("one")) << name;
    for (const char* key : {"loss", "grad_norm", "validation_loss"})
      EXPECT_EQ(metric(path(name), key), metric(path("one"), key)) << name << " " << key;
  }
}

TEST_F(MpiRun, EvaluationHasTheSameBits) {
  must_run(train("one", {"--set", "train.steps=2", "--set", "schedule.warmup_steps=1"}));
  const Arguments eval{"eval", "--checkpoint", "one", "--batch", "3", "--json"};
  const Ended alone = must_run(eval), shared_out = run_on(4, eval);
  EXPECT_EQ(shared_out.code, 0) << shared_out.err;
  EXPECT_EQ(shared_out.out, alone.out);
}

TEST_F(MpiRun, ASignalToOneRankSavesOnce) {
  const auto program = start_on(2, train("run", endless()));
  wait_for_steps("run", 20);
  kill(process_of(program->pid(), 1), SIGTERM);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("SIGTERM: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

// While the ranks find each other.
TEST_F(MpiRun, ASignalBeforeTheFirstStepStopsAllRanks) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const auto program = start_on(2, train("run", endless()));
    pid_t second = -1;
    for (int i = 0; i < 5000 && (second = process_of(program->pid(), 1)) < 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    wait_until_caught(second, signal);
    kill(second, signal);
    const Ended ended = program->wait();
    EXPECT_EQ(ended.code, 75) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("stopped before the run was opened"));
    EXPECT_TRUE(ended.errors().empty()) << ended.err;
  }
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(MpiRun, ASignalThatMpirunPassesOnSavesOnce) {
  const auto program = start_on(2, train("run", endless()));
  wait_for_steps("run", 20);
  program->send(SIGUSR1);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 75) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("SIGUSR1: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

// Told to end itself, mpirun waits so many seconds before it tells its ranks, and as many before it kills them, however
// soon they have ended; and says 1 whatever they say.
TEST_F(MpiRun, AnEndOfMpirunLeavesTheTimeThatItWasGiven) {
  const auto program = start_on(2, train("run", endless()), {"--mca", "odls_base_sigkill_timeout", "10"});
  wait_for_steps("run", 20);
  program->send(SIGTERM);
  const Ended ended = program->wait();
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.err, HasSubstr("SIGTERM: saved at step"));
  must_run({"checkpoint", "verify", "run"});
}

TEST_F(MpiRun, ConfigFromStdinReachesAllRanks) {
  must_run(train("one"));
  const std::string script = "exec \"$@\" < tiny.yaml";
  Arguments words{"sh", "-c", script, "sh"};
  for (const std::string& word : mpirun(2)) words.push_back(word);
  const Ended ended = Program(path(""), {"train", "--config", "-", "--run", "run"}, "", "", words).wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(weights("run"), weights("one"));
}

TEST_F(MpiRun, BenchStepCountsWhatTheFormulasSay) {
  const Arguments bench{"bench", "step", "--config", "tiny.yaml", "--steps", "1", "--warmup", "0", "--json"};
  const Ended three = run_on(3, bench);
  EXPECT_EQ(three.code, 2);
  EXPECT_EQ(three.errors().size(), 1u) << three.err;
  EXPECT_THAT(three.err, HasSubstr("error: parallel.reduction_slots: 2 slots cannot be shared by 3 ranks"));
  for (const char* shared : {"true", "false"})
    for (const char* precision : {"f32", "bf16"}) {
      Arguments words = bench;
      for (const std::string& more :
           {fmt::format("parallel.shard_optimizer={}", shared), fmt::format("run.precision={}", precision),
            std::string("model.embedding_dim=128")})
        words.insert(words.end(), {"--set", more});
      const Json j = run_on(2, words).json();
      for (const char* reduction : {"exact", "fast"})
        EXPECT_EQ(j[reduction]["sent_bytes"], j[reduction]["expected_bytes"]) << shared << precision << reduction;
      EXPECT_EQ(j["fast"]["sent_bytes_of_gradients"], "by formula");
    }
}

TEST_F(MpiRun, ABenchmarkThatDoesNotFitIsRefused) {
  const Ended ended = run_on(2, {"bench", "step", "--config", "tiny.yaml", "--set", "model.embedding_dim=16384",
                                 "--set", "model.num_blocks=256", "--set", "model.mixer.num_heads=64"});
  EXPECT_EQ(ended.code, 2) << ended.err;
  ASSERT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_THAT(ended.errors()[0],
              AllOf(HasSubstr("this benchmark (a run with each reduction, and rank 0's part alone)"),
                    HasSubstr("of 2 ranks on this host) and "), HasSubstr("train.micro_batch_size")));
}

// What launchers leave in the environment, with nobody there to talk to: one model must not be trained many times.
TEST_F(CliTest, ProcessesThatDoNotKnowOfEachOtherAreRefused) {
  make_data();
  for (const char* launched : {"OMPI_COMM_WORLD_SIZE=2", "PMI_SIZE=2", "SLURM_STEP_NUM_TASKS=2"}) {
    SCOPED_TRACE(launched);
    expect_refused(train("run"), {"started as one of 2 processes"}, launched);
    expect_refused({"compare", "--config", "tiny.yaml", "--vary", "optimizer.lr=1,2", "--out", "run"},
                   {"'xlstm compare' works as one process"}, launched);
    EXPECT_EQ(run({"doctor"}, launched).code, 0);  // tells of each host
    expect_refused({"compare", "--config", "none.yaml", "--vary", "optimizer.lr=1,2", "--out", "run", "--part", "1/2"},
                   {"none.yaml"}, launched);  // shares the work in its own way
  }
  const Arguments srun{"env", "SLURM_STEP_NUM_TASKS=2", "SLURM_JOBID=1", "SLURM_STEPID=0", "SLURM_PROCID=1"};
  const Ended ended = Program(path(""), train("run"), "", "", srun).wait();
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.errors().size(), 1u) << ended.err;
  EXPECT_FALSE(fs::exists(path("run")));
}

}  // namespace
}  // namespace xlstm
