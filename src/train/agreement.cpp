#include "train/agreement.h"

#include <sched.h>

#include <algorithm>
#include <cstring>

#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/log.h"
#include "core/parallel.h"
#include "train/hardware.h"

namespace xlstm {

namespace {

// Hosts may differ in these, and no bit with them.
bool is_own_business(const std::string& key) { return key == "run.threads" || names_data_folder(key); }

std::string value_of(const Facts& facts, const std::string& name) {
  const auto it = facts.find(name);
  return it == facts.end() ? "missing" : it->second;
}

}  // namespace

void agree(Communicator& ranks, const Facts& mine) {
  const std::vector<std::string> all = ranks.gather_texts("agreement at the start", Json(mine).dump());
  const Facts first = Json::parse(all[0]).get<Facts>();
  for (std::size_t r = 1; r < all.size(); ++r) {
    const Facts other = Json::parse(all[r]).get<Facts>();
    for (const auto* facts : {&first, &other})
      for (const auto& [name, unused] : *facts) {
        const std::string here = value_of(first, name), there = value_of(other, name);
        if (here == there) continue;
        throw SharedError(fmt::format("{} does not fit the others: {} is {} there, {} on {}; all ranks need the same",
                                      ranks.name(static_cast<int>(r)), name, there, here, ranks.name(0)));
      }
  }
}

Facts facts_of(const TrainConfig& cfg) {
  Facts facts;
  for (const auto& [key, value] : ConfigTree::from_text(write_config(cfg), "config").values)
    if (!is_own_business(key)) facts[key] = value.text;
  return facts;
}

Facts facts_of(const Machine& machine) { return {{"the device", machine.kind()}}; }

Machine open_machine(Communicator& ranks, const RunConfig& run) {
  std::optional<Machine> machine;
  ranks.together("device", [&] {
    machine.emplace(run, ranks.local_rank());
    if (machine->gpu() && ranks.size() > 1) ranks.expect_on_device();
  });
  if (ranks.size() > 1) agree(ranks, facts_of(*machine));
  return std::move(*machine);
}

Facts facts_of_program() {
  std::string build = "unknown";
  try {
    const std::string program = read_file("/proc/self/exe");
    build = xxh3_hex(program.data(), program.size()).substr(0, 12);
  } catch (const UserError&) {  // a system without it
  }
  return {{"the program", fmt::format("{} (build {})", program_version(), build)}};
}

int threads_of_rank(Communicator& ranks, i64 configured) {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::string cores(sizeof set, '\0');
  std::memcpy(cores.data(), &set, sizeof set);
  const std::string mine = ranks.host(ranks.rank()) + cores;
  const std::vector<std::string> all = ranks.gather_texts("cores", mine);
  const auto sharing = static_cast<int>(std::count(all.begin(), all.end(), mine));
  const int share = std::max(1, usable_cores() / sharing);
  if (ranks.size() > 1 && configured > share)
    log_warning(
        "{} threads, and this rank's share of the cores is {}: they wait for each other; run.threads=0 takes the "
        "share, "
        "'mpirun --bind-to none' or '--map-by slot:PE={}' gives a rank more",
        configured, share, configured);
  return configured > 0 ? static_cast<int>(configured) : share;
}

}  // namespace xlstm
