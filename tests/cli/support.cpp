#include "tests/cli/support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/random.h"

namespace xlstm {

namespace {

constexpr std::chrono::seconds kLongest{60};

// In the child: never returns. Only calls that are safe between fork and exec.
void become(const char* where, char* const* argv, char* environment, const char* out, const char* err) {
  const int o = open(out, O_WRONLY | O_CREAT, 0666), e = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (o < 0 || e < 0 || chdir(where) != 0) _exit(126);
  if (environment && putenv(environment) != 0) _exit(126);
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(o, STDOUT_FILENO);
  dup2(e, STDERR_FILENO);
  for (const int ignored : {SIGHUP, SIGINT}) signal(ignored, SIG_DFL);  // under nohup; in the background of a script
  execvp(argv[0], argv);
  _exit(127);
}

fs::path make_temporary_folder() {
  std::string name = (fs::temp_directory_path() / "xlstm_cli_XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
  return name;
}

const char* const kTinyConfig = R"(run: {name: tiny, seed: 1, threads: 1}
model:
  vocab_size: 340
  embedding_dim: 32
  num_blocks: 2
  mixer: {num_heads: 2, chunk_size: 8}
  ffn: {round_up_to: 16}
data: {train: data, validation: data}
train: {steps: 12, batch_size: 4, micro_batch_size: 2, context_length: 24}
optimizer: {lr: 3e-3}
schedule: {type: cosine, warmup_steps: 2}
checkpoint: {every: 4, keep: 3}
eval: {every: 5, batches: 2}
)";

}  // namespace

Json Ended::json() const {
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1) << out;
  Json parsed = Json::parse(out, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(parsed.is_object()) << out;
  return parsed;
}

std::vector<std::string> Ended::errors() const {
  std::vector<std::string> found;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("error:")) found.push_back(line);
  return found;
}

Program::Program(const fs::path& where, const Arguments& arguments, const std::string& environment,
                 const std::string& stdout_file, const Arguments& launcher) {
  static int number = 0;
  const std::string name = (where / fmt::format(".process_{}", number++)).string();
  err_ = name + ".err";
  out_ = stdout_file.empty() ? name + ".out" : stdout_file;
  std::vector<std::string> words = launcher;
  words.emplace_back(XLSTM_PROGRAM);
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string variable = environment;
  const std::string here = where.string(), out = out_.string(), err = err_.string();
  pid_ = fork();
  if (pid_ == 0)
    become(here.c_str(), argv.data(), variable.empty() ? nullptr : variable.data(), out.c_str(), err.c_str());
  if (pid_ < 0) throw std::runtime_error("fork");
}

Program::~Program() {
  if (!ended_) {
    send(SIGKILL);
    wait();
  }
}

void Program::send(int signal) const {
  if (!ended_) kill(pid_, signal);
}

bool Program::running() {
  ended_ = ended_ || waitpid(pid_, &status_, WNOHANG) == pid_;
  return !ended_;
}

Ended Program::wait() {
  const auto begin = std::chrono::steady_clock::now();
  while (running()) {
    if (std::chrono::steady_clock::now() - begin > kLongest) {
      ADD_FAILURE() << "the program does not end";
      send(SIGKILL);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, fs::is_regular_file(out_) ? read_file(out_) : "", read_file(err_)};
}

CliTest::CliTest() : folder_(make_temporary_folder()) {}

CliTest::~CliTest() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void CliTest::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

Ended CliTest::run(const Arguments& arguments, const std::string& environment) const {
  return Program(folder_, arguments, environment).wait();
}

Ended CliTest::must_run(const Arguments& arguments) const {
  const Ended ended = run(arguments);
  EXPECT_EQ(ended.code, 0) << fmt::format("xlstm {} {}", arguments[0], arguments[1]) << "\n" << ended.err;
  return ended;
}

void CliTest::make_data() const {
  write("text.jsonl", sample_text(1));
  write("tiny.yaml", kTinyConfig);
  must_run({"tokenizer", "train", "text.jsonl", "--vocab-size", "340", "--out", "tok.model"});
  must_run(
      {"data", "build", "text.jsonl", "--tokenizer", "tok.model", "--out", "data", "--validation-fraction", "0.1"});
}

Arguments CliTest::train(const std::string& run, const Arguments& more) const {
  Arguments arguments{"train", "--config", "tiny.yaml", "--run", run};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string CliTest::weights(const std::string& run) const {
  return must_run({"checkpoint", "info", run, "--json"}).json().value("weights_sha256", "");
}

void CliTest::expect_refused(const Arguments& arguments, const std::vector<std::string>& parts,
                             const std::string& environment) const {
  const Ended ended = run(arguments, environment);
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_EQ(ended.out, "");
  const std::vector<std::string> errors = ended.errors();
  ASSERT_EQ(errors.size(), 1u) << ended.err;
  EXPECT_TRUE(ended.err.ends_with(errors[0] + "\n")) << "the error is not the last line: " << ended.err;
  for (const std::string& part : parts) EXPECT_THAT(errors[0], testing::HasSubstr(part));
}

void wait_until_caught(pid_t process, int signal) {
  const std::string file = fmt::format("/proc/{}/status", process), key = "SigCgt:";
  for (int i = 0; i < 20000; ++i) {
    std::ifstream status(file);
    for (std::string word; status >> word;)
      if (word == key && status >> word && (std::stoull(word, nullptr, 16) >> (signal - 1) & 1) != 0) return;
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  ADD_FAILURE() << "process " << process << " does not listen to signal " << signal;
}

std::string sample_text(int seed) {
  const std::vector<std::string> words = {
      "the",  "state", "of",    "memory", "gate", "exp",       "forget", "input",
      "mean", "naïve", "Größe", "日本",   "for(", "return x;", "3.14",   "std::vector<float>"};
  std::string text;
  for (int d = 0; d < 300; ++d) {
    const RandomStream random(static_cast<std::uint64_t>(seed), RandomUse::test, static_cast<std::uint64_t>(d));
    std::string document = fmt::format("Document {}:", d);
    const std::uint32_t length = 5 + random.bits(0) % 60;
    for (std::uint32_t i = 1; i < length; ++i) document += " " + words[random.bits(i) % words.size()];
    text += to_text({{"text", document}}) + "\n";
  }
  return text;
}

void flip_bit(const fs::path& file, i64 offset) {
  std::string bytes = read_file(file);
  ASSERT_LT(offset, static_cast<i64>(bytes.size()));
  bytes[static_cast<std::size_t>(offset)] ^= 4;
  std::ofstream(file, std::ios::binary) << bytes;
}

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && !entry.path().filename().string().starts_with(".process_"))
      files.push_back(entry.path().lexically_relative(folder).string());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<double> metric(const fs::path& run, const char* key) {
  std::vector<double> values;
  std::istringstream lines(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (const Json j = Json::parse(line, nullptr, false); j.is_object() && j.contains(key))
      values.push_back(j.at(key).get<double>());
  return values;
}

}  // namespace xlstm
