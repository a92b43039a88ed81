// `xlstm generate`: where prompts come from, when a text ends, and that it appears while it is made.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class GenerateCommand : public CliTest {
 protected:
  GenerateCommand() {
    make_data();
    must_run(train("run"));
  }
  static Arguments with(const Arguments& more) {
    Arguments arguments{"generate", "--checkpoint", "run", "--seed", "5", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(GenerateCommand, PromptsFile) {
  write("prompts.txt", "the state\r\n\r\n\na second, longer prompt\nno line end");
  const Json from_file = must_run(with({"--prompts-file", "prompts.txt", "--tokens", "9", "--json"})).json();
  const Json from_options = must_run(with({"--prompt", "the state", "--prompt", "a second, longer prompt", "--prompt",
                                           "no line end", "--tokens", "9", "--json"}))
                                .json();
  ASSERT_EQ(from_file["samples"].size(), 3u);
  EXPECT_EQ(from_file["samples"], from_options["samples"]);
  const Ended text = must_run(with({"--prompts-file", "prompts.txt", "--tokens", "9"}));
  for (const Json& sample : from_file["samples"])
    EXPECT_THAT(text.out, HasSubstr(sample["prompt"].get<std::string>() + sample["text"].get<std::string>()));

  for (const char* nothing : {"", "\n\r\n\n"}) {
    write("empty.txt", nothing);
    expect_refused(with({"--prompts-file", "empty.txt"}), {"--prompts-file empty.txt", "one per line"});
    expect_refused(with({"--prompts-file", "empty.txt", "--prompt", "the"}), {"--prompts-file empty.txt"});
  }
  expect_refused(with({"--prompts-file", "nothere.txt"}), {"nothere.txt"});
}

TEST_F(GenerateCommand, InvalidUtf8InAPromptIsReplacedAndReported) {
  const Ended replaced = must_run(with({"--prompt", "the \xff state", "--tokens", "9"}));
  EXPECT_TRUE(replaced.out.starts_with("the \uFFFD state")) << replaced.out;
  EXPECT_THAT(replaced.err, HasSubstr("warning: 1 piece of invalid UTF-8"));
  const Ended same = must_run(with({"--prompt", "the \uFFFD state", "--tokens", "9"}));
  EXPECT_EQ(same.out, replaced.out);
  EXPECT_EQ(same.err.find("warning"), std::string::npos);
}

TEST_F(GenerateCommand, SamplingOptionsOutOfRange) {
  for (const auto& [option, value] : std::vector<std::array<std::string, 2>>{{"--temperature", "inf"},
                                                                             {"--temperature", "nan"},
                                                                             {"--temperature", "-0.5"},
                                                                             {"--top-p", "inf"},
                                                                             {"--top-p", "nan"},
                                                                             {"--top-p", "0"},
                                                                             {"--top-k", "-1"}})
    expect_refused(with({option, value}), {option});
}

TEST_F(GenerateCommand, EndlessGoesOnAfterTheEndOfADocument) {
  // Hot enough that one token in 340 is the end of a document.
  Arguments hot = with({"--prompt", "the", "--temperature", "1e3", "--tokens", "4000", "--json"});
  EXPECT_LT(must_run(hot).json()["new_tokens"], 4000);
  hot.push_back("--endless");
  EXPECT_EQ(must_run(hot).json()["new_tokens"], 4000);
}

// Read from a pipe while the program goes on writing, and not in blocks as stdio would hand them out.
TEST_F(GenerateCommand, TextAppearsWhileItIsMade) {
  const std::string pipe = path("pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int fd = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(fd, 0);
  Program program(path(""), with({"--prompt", "the", "--tokens", "1000000000", "--endless"}), "", pipe);
  std::string text;
  bool small_pieces = false;
  while (text.size() < 5000) {
    pollfd readable{fd, POLLIN, 0};
    ASSERT_EQ(poll(&readable, 1, /*milliseconds=*/30'000), 1) << "nothing comes";
    char bytes[1 << 16];
    const ssize_t got = read(fd, bytes, sizeof bytes);
    ASSERT_GT(got, 0) << "the program has ended";
    text.append(bytes, static_cast<std::size_t>(got));
    small_pieces |= got % 4096 != 0;
  }
  EXPECT_TRUE(program.running());
  program.send(SIGKILL);
  program.wait();
  close(fd);
  EXPECT_TRUE(text.starts_with("the")) << text.substr(0, 100);
  EXPECT_TRUE(small_pieces);
}

}  // namespace
}  // namespace xlstm
