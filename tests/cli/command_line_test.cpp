// Help, unknown words, ill-typed options, and results that cannot be written.
#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

using CommandLine = CliTest;

TEST_F(CommandLine, EveryCommandHasHelpWithAnExample) {
  const std::vector<Arguments> commands = {{"doctor"},
                                           {"tokenizer"},
                                           {"tokenizer", "train"},
                                           {"tokenizer", "encode"},
                                           {"tokenizer", "decode"},
                                           {"data"},
                                           {"data", "build"},
                                           {"data", "info"},
                                           {"data", "verify"},
                                           {"plan"},
                                           {"train"},
                                           {"eval"},
                                           {"generate"},
                                           {"checkpoint"},
                                           {"checkpoint", "info"},
                                           {"checkpoint", "verify"},
                                           {"checkpoint", "diff"},
                                           {"bench"},
                                           {"bench", "ops"},
                                           {"bench", "step"},
                                           {"bench", "gemm"},
                                           {"bench", "loader"},
                                           {"bench", "checkpoint"}};
  const std::string all = run({"--help"}).out;
  for (Arguments command : commands) {
    SCOPED_TRACE(fmt::format("{} {}", command.front(), command.back()));
    EXPECT_THAT(all, HasSubstr(command.front()));
    command.push_back("--help");
    const Ended help = run(command);
    EXPECT_EQ(help.code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_THAT(help.out, HasSubstr("Example:"));
    EXPECT_THAT(help.out, HasSubstr("xlstm " + command.front()));
  }
  EXPECT_THAT(run({"--version"}).out, HasSubstr("xlstm"));
  EXPECT_THAT(all, testing::AllOf(HasSubstr("75"), HasSubstr("Example:")));
}

TEST_F(CommandLine, WordsThatMeanNothing) {
  expect_refused({}, {"expected one of", "train", "(see 'xlstm --help')"});
  expect_refused({"trian"}, {"unknown command 'trian'", "did you mean 'train'?"});
  expect_refused({"data", "biuld"}, {"unknown command 'biuld'", "did you mean 'build'?", "'xlstm data --help'"});
  expect_refused({"checkpoint"}, {"expected one of info, verify, diff"});
  expect_refused({"eval", "--chekpoint", "r"}, {"unknown option --chekpoint", "did you mean '--checkpoint'?"});
  expect_refused({"train"}, {"--config is required", "'xlstm train --help'"});
  expect_refused({"train", "--config"}, {"--config: a value is expected"});
  for (const Arguments& command : {Arguments{"eval", "--checkpoint", ""}, {"eval", "--checkpoint", "r", "--data", ""}})
    expect_refused(command, {command[command.size() - 2], "is empty"});
  expect_refused({"plan", "--config", "a.yaml", "b.yaml"}, {"b.yaml"});
}

TEST_F(CommandLine, NumbersOutOfRange) {
  const Arguments generate{"generate", "--checkpoint", "r"};
  for (const auto& [option, value, expected] :
       std::vector<std::array<std::string, 3>>{{"--tokens", "x", "'x' is not a whole number"},
                                               {"--tokens", "0", "'0' is not a whole number of at least 1"},
                                               {"--threads", "99999999", "from 1 to 1024"},
                                               {"--top-k", "many", "--top-k many: a whole number is expected"},
                                               {"--top-k", "1.5", "--top-k 1.5: a whole number is expected"},
                                               {"--seed", "-1", "'-1' is not a whole number of at least 0"},
                                               {"--checkpoint", "again", "--checkpoint: given 2 times; once"},
                                               {"--temp", "1", "did you mean '--temperature'?"}}) {
    Arguments arguments = generate;
    arguments.insert(arguments.end(), {option, value});
    expect_refused(arguments, {option, expected});
  }
  expect_refused({"train", "--config", "c.yaml", "--stop-at", "-5"}, {"--stop-at", "'-5'"});
  expect_refused({"plan", "--config", "c.yaml", "--gemm-gflops", "0"}, {"--gemm-gflops 0"});
  expect_refused({"bench", "step", "--config", "c.yaml", "--steps", "1.5"}, {"--steps", "'1.5'"});
  expect_refused({"data", "build", "t", "--tokenizer", "m", "--out", "d", "--threads", "-2"}, {"--threads", "'-2'"});
}

TEST_F(CommandLine, BenchmarksLargerThanTheMachine) {
  make_data();
  const std::string most = "9223372036854775807";
  expect_refused({"bench", "gemm", "--tokens", most}, {"--tokens", most, "from 1 to"});
  for (const std::string option : {"--batch", "--context"}) {
    expect_refused({"bench", "loader", "--data", "data", option, most}, {option, most, "from 1 to"});
    expect_refused({"bench", "loader", "--data", "data", option, "2000000000"}, {"2000000000", "the memory available"});
  }
  for (const std::string option : {"--steps", "--warmup"})
    expect_refused({"bench", "step", "--config", "tiny.yaml", option, most}, {option, most});
  for (const std::string megabytes : {"nan", "1e300", "0"})
    expect_refused({"tokenizer", "train", "text.jsonl", "--vocab-size", "340", "--out", "x", "--sample-mb", megabytes},
                   {"--sample-mb"});
}

TEST_F(CommandLine, BenchmarksDeleteWhatTheyMadeAlone) {
  make_data();
  fs::create_directory(path("bench_checkpoint"));
  write("bench_checkpoint/mine", "mine");
  const auto before = files_below(path(""));
  must_run({"bench", "checkpoint", "--config", "tiny.yaml", "--dir", "."});
  must_run({"bench", "checkpoint", "--config", "tiny.yaml", "--dir", "mistyped/folder"});
  EXPECT_EQ(files_below(path("")), before);
  EXPECT_FALSE(fs::exists(path("mistyped")));
}

TEST_F(CommandLine, AResultThatCannotBeWrittenIsAnError) {
  make_data();
  must_run(train("run"));
  const Arguments sample{"generate", "--checkpoint", "run", "--prompt", "the", "--tokens", "5"};
  for (const Arguments& command : {{"data", "info", "data", "--json"}, sample}) {
    const Ended ended = Program(path(""), command, "", "/dev/full").wait();
    EXPECT_EQ(ended.code, 2);
    ASSERT_EQ(ended.errors().size(), 1u) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("cannot write the result to standard output: No space left on device"));
  }
}

TEST_F(CommandLine, SeveralProcessesAreNotPretended) {
  make_data();
  expect_refused(train("run"), {"started as one of 2 processes", "mpirun"}, "OMPI_COMM_WORLD_SIZE=2");
  EXPECT_FALSE(fs::exists(path("run")));
}

}  // namespace
}  // namespace xlstm
