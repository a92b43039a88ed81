#pragma once
// The program as a user starts it: a process with arguments, exit code, stdout and stderr; and a folder with a small
// text, its tokenizer, its data set and the config of a run that takes a fraction of a second.
#include <gmock/gmock.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "core/json.h"

namespace xlstm {

using Arguments = std::vector<std::string>;

struct Ended {
  int code = -1;    // exit code, or 128 + the signal that ended it
  std::string out;  // stdout
  std::string err;  // stderr

  Json json() const;                        // of stdout, which must be one JSON object on one line
  std::vector<std::string> errors() const;  // the lines of stderr that begin "error:"
};

// A process of the program, in folder `where`. It is killed when it takes longer than a minute.
class Program {
 public:
  // `launcher`: a command that is to start it, such as mpirun with its options.
  Program(const fs::path& where, const Arguments& arguments, const std::string& environment = "",
          const std::string& stdout_file = "", const Arguments& launcher = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  void send(int signal) const;
  bool running();
  Ended wait();
  pid_t pid() const { return pid_; }

 private:
  fs::path out_, err_;
  pid_t pid_;
  int status_ = -1;
  bool ended_ = false;
};

// A folder of its own for every test, gone afterwards.
class CliTest : public testing::Test {
 protected:
  CliTest();
  ~CliTest() override;

  fs::path path(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& text) const;
  Ended run(const Arguments& arguments, const std::string& environment = "") const;
  Ended must_run(const Arguments& arguments) const;  // exit 0 is expected

  // text.jsonl (and other.jsonl), tok.model, data/ with its validation part, and tiny.yaml, which trains on it.
  void make_data() const;
  Arguments train(const std::string& run, const Arguments& more = {}) const;
  std::string weights(const std::string& run) const;  // weights_sha256 of its newest checkpoint

  // Exit 2, nothing on stdout, one line on stderr that begins "error:" and holds every one of `parts`.
  void expect_refused(const Arguments& arguments, const std::vector<std::string>& parts,
                      const std::string& environment = "") const;

 private:
  fs::path folder_;
};

// Returns once that process has a handler for the signal.
void wait_until_caught(pid_t process, int signal);

// Some hundred short documents of words, numbers and letters beyond ASCII, as JSON lines; different for each seed.
std::string sample_text(int seed);

// Flips one bit of a file.
void flip_bit(const fs::path& file, i64 offset);

// The files below a folder, relative, sorted.
std::vector<std::string> files_below(const fs::path& folder);

// One number of each step's line of metrics.jsonl.
std::vector<double> metric(const fs::path& run, const char* key);

}  // namespace xlstm
