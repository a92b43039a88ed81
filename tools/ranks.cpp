#include "tools/ranks.h"

#include <csignal>

#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "dist/rank_log.h"
#include "tools/commands.h"
#include "train/agreement.h"
#include "train/replica_check.h"

namespace xlstm {

namespace {

int code_of(const char* command, const std::function<void(Communicator&)>& work, Communicator& ranks) {
  const auto told = [&](int code, const char* why) {
    if (ranks.first()) log_error("{}", one_line(why));
    return code;
  };
  try {
    agree(ranks, {{"the command", command}});
    work(ranks);
    return 0;
  } catch (const ExitCode& e) {
    return e.code;
  } catch (const SharedError& e) {
    return told(2, e.what());
  } catch (const SharedFault& e) {
    return told(4, e.what());
  } catch (const std::exception& e) {
    ranks.abort(one_line(e.what()));
  }
  return 1;
}

}  // namespace

TrainConfig load_config_on_all(Communicator& ranks, const std::string& path,
                               const std::vector<std::string>& assignments) {
  TrainConfig cfg;
  if (ranks.size() == 1) return load_train_config(path, assignments);
  const bool stdin_is_meant = path == "-";
  std::string mine;
  ranks.together("config", [&] {
    if (stdin_is_meant && ranks.first()) mine = read_standard_input();
  });
  const std::string text = ranks.gather_texts("config", mine)[0];
  ranks.together("config", [&] {
    cfg = load_train_config(path, assignments, stdin_is_meant ? std::optional(text) : std::nullopt);
  });
  return cfg;
}

void with_ranks(const char* command, const std::function<void(Communicator&)>& work) {
  const auto ranks = make_communicator();
  if (ranks->size() == 1) return work(*ranks);
  int code = 0;
  {
    const RankLog log(*ranks);
    code = code_of(command, work, *ranks);
  }
  // A launcher ends all when one has ended with a code; each has done its work by then.
  ranks->end();
  for (const int signal : {SIGTERM, SIGUSR1}) std::signal(signal, SIG_IGN);
  if (code != 0) throw ExitCode{code};
}

}  // namespace xlstm
