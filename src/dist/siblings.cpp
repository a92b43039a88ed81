#include "dist/siblings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace xlstm {

namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

// Which rank it is, as launchers tell it; -1 for none.
int rank_of(const fs::path& process) {
  const std::string all = '\0' + text_of(process / "environ");
  for (const char* name : {"OMPI_COMM_WORLD_RANK=", "PMIX_RANK="})
    if (const std::size_t at = all.find('\0' + std::string(name)); at != std::string::npos)
      return std::atoi(all.c_str() + at + 1 + std::string_view(name).size());
  return -1;
}

// "pid (any name) state parent ..."
std::pair<char, pid_t> state_and_parent(const fs::path& process) {
  const std::string stat = text_of(process / "stat");
  std::istringstream rest(stat.substr(std::min(stat.rfind(')') + 1, stat.size())));
  char state = '?';
  pid_t parent = -1;
  rest >> state >> parent;
  return {state, parent};
}

std::string program_of(const fs::path& process) {
  std::error_code unreadable;
  return fs::read_symlink(process / "exe", unreadable).filename().string();
}

std::string what_is_wrong(const fs::path& process, char state) {
  switch (state) {
    case 'T':
    case 't': return "is stopped";
    case 'D': return "waits for a disk";
    default: break;
  }
  const std::string own = program_of("/proc/self"), there = program_of(process);
  return there.empty() || there == own ? "" : fmt::format("runs '{}'", there);
}

}  // namespace

Siblings siblings_of_this_process() {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const int me = rank_of("/proc/self");
  std::map<int, std::string> wrong;  // by rank
  std::error_code none;
  for (fs::directory_iterator at("/proc", none); at != fs::directory_iterator(); at.increment(none)) {
    const fs::path process = at->path();
    if (process.filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    const auto [state, parent] = state_and_parent(process);
    if (parent != getppid()) continue;
    if (const int rank = rank_of(process); rank >= 0 && rank != me) wrong[rank] = what_is_wrong(process, state);
  }
  Siblings out;
  for (const auto& [rank, what] : wrong) {
    out.before_this += what.empty() && rank < me ? 1 : 0;
    if (!what.empty())
      out.hanging += fmt::format("{}rank {} ({}) {}", out.hanging.empty() ? "" : ", ", rank, host, what);
  }
  return out;
}

}  // namespace xlstm
