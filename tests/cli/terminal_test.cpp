// Progress bars as a person sees them: the program on a pseudo terminal, its output on a small screen.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// What a terminal of `width` columns shows, scrolled-off lines included: \r, \n, erase to the end of the line, colours,
// and lines that go on in the next row when they are too long. No wide characters.
class Screen {
 public:
  Screen(const std::string& output, std::size_t width) : width_(width) {
    for (std::size_t at = 0; at < output.size();) {
      if (output[at] == '\033')
        at = escape(output, at);
      else
        at = character(output, at);
    }
  }

  const std::vector<std::vector<std::string>>& rows() const { return rows_; }
  bool at_line_start() const { return column_ == 0; }

  std::vector<std::string> rows_with(const std::string& text) const {
    std::vector<std::string> found;
    for (const auto& row : rows_) {
      std::string line;
      for (const std::string& c : row) line += c;
      if (line.find(text) != std::string::npos) found.push_back(line);
    }
    return found;
  }

 private:
  std::size_t escape(const std::string& output, std::size_t at) {
    const std::size_t end = output.find_first_of("Km", at);
    EXPECT_NE(end, std::string::npos);
    if (output[end] == 'K') rows_.back().resize(column_);
    return end + 1;
  }

  std::size_t character(const std::string& output, std::size_t at) {
    std::size_t end = at + 1;
    while (end < output.size() && is_continuation(output[end])) ++end;
    if (output[at] == '\r') {
      column_ = 0;
    } else if (output[at] == '\n') {
      rows_.emplace_back(column_, " ");
    } else {
      if (column_ == width_) {
        rows_.emplace_back();
        column_ = 0;
      }
      if (rows_.back().size() <= column_) rows_.back().resize(column_ + 1, " ");
      rows_.back()[column_++] = output.substr(at, end - at);
    }
    return end;
  }

  std::size_t width_, column_ = 0;
  std::vector<std::vector<std::string>> rows_{1};
};

class Terminal : public CliTest, public testing::WithParamInterface<int> {
 protected:
  Terminal() { make_data(); }

  // Runs the program with stderr on a terminal of GetParam() columns; 0: of a width that nobody knows, taken as 80.
  Screen screen_of(Arguments words) const {
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_TRUE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    const winsize size{.ws_row = 24, .ws_col = static_cast<unsigned short>(GetParam()), .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(ioctl(master, TIOCSWINSZ, &size), 0);
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    EXPECT_GE(slave, 0);

    words.insert(words.begin(), XLSTM_PROGRAM);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const std::string where = path("").string();
    const pid_t pid = fork();
    if (pid == 0) {
      if (chdir(where.c_str()) != 0) _exit(126);
      dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
      dup2(slave, STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(slave);
    std::string output;
    char bytes[4096];
    for (ssize_t got; (got = read(master, bytes, sizeof bytes)) > 0;)
      output.append(bytes, static_cast<std::size_t>(got));
    close(master);
    int status = -1;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0) << output;
    return {output, static_cast<std::size_t>(GetParam() > 0 ? GetParam() : 80)};
  }

  // One line with a bar, whole, and the cursor below it.
  void expect_one_bar(const Screen& screen, const std::string& what) const {
    EXPECT_EQ(screen.rows_with("░").size(), 0u) << "left behind by a redraw";
    const std::vector<std::string> bars = screen.rows_with("█");
    ASSERT_EQ(bars.size(), 1u);
    EXPECT_TRUE(bars[0].starts_with(what + " ")) << bars[0];
    EXPECT_THAT(bars[0], HasSubstr("100.0 %"));
    EXPECT_THAT(bars[0], HasSubstr("  in "));
    EXPECT_TRUE(screen.at_line_start());
  }
};

TEST_P(Terminal, Train) {
  // A log line at every step, each of which erases the bar and draws it again.
  const Screen screen = screen_of(train("run", {"--set", "log.every=1"}));
  expect_one_bar(screen, "train");
  EXPECT_EQ(screen.rows_with("/12  loss").size(), 12u);
  EXPECT_EQ(screen.rows_with("done: 12 steps").size(), 1u);
}

TEST_P(Terminal, DataBuild) {
  expect_one_bar(screen_of({"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "again"}), "encoding");
}

INSTANTIATE_TEST_SUITE_P(Columns, Terminal, testing::Values(80, 40, 200, 0));

}  // namespace
}  // namespace xlstm
