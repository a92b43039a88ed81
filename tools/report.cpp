// xlstm report
#include "train/report.h"

#include <memory>

#include "core/log.h"
#include "core/text.h"
#include "tools/commands.h"
#include "tools/run_samples.h"
#include "train/plot.h"

namespace xlstm {

namespace {

struct Options {
  std::vector<std::string> runs;
  std::string out;
  i64 samples = 1, tokens = 80, threads = 0;
  bool json = false;
};

// The folder that `compare` made is easily taken for a run.
void check_no_comparison(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / "compare.json", ignored) && !fs::exists(folder / "config.yaml", ignored))
    throw user_error("{}: is a comparison, and its page is {}; name the runs in its folders to report some of them",
                     folder.string(), (folder / "report.html").string());
}

void report(const Options& o) {
  set_threads(static_cast<int>(o.threads));
  const fs::path out = o.out.empty() ? fs::path(o.runs.size() == 1 ? o.runs[0] : ".") / "report.html" : fs::path(o.out);
  std::vector<ReportedRun> runs;
  i64 damaged = 0;
  for (const std::string& folder : o.runs) {
    check_no_comparison(folder);
    runs.push_back(ReportedRun::read(folder));
    runs.back().color = runs.size() - 1;
    if (runs.size() > 1) runs.back().reference = 0;
    if (const i64 lines = runs.back().metrics.damaged_lines; lines > 0)
      log_warning("{}: {} left out: half-written, or none of this program's",
                  (fs::path(folder) / "metrics.jsonl").string(), counted(lines, "line"));
    damaged += runs.back().metrics.damaged_lines;
  }
  check_output_file(out, "--out");
  if (!can_plot()) log_warning("gnuplot is not installed (Debian: gnuplot-nox): the report has no curves");
  report_page(runs);  // refuses what cannot be compared, before the samples are drawn
  for (std::size_t r = 0; r < runs.size(); ++r) runs[r].samples = draw_samples(o.runs[r], o.samples, o.tokens);
  write_file_atomically(out, report_page(runs));
  print_result(o.json, {{"report", out.string()}, {"runs", runs.size()}, {"damaged_lines", damaged}},
               fmt::format("{}\n", out.string()));
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto* cmd = app.add_subcommand("report", "Curves, tables and settings of runs as one HTML page without a network");
  auto o = std::make_shared<Options>();
  cmd->add_option("runs", o->runs, "Run directories")->required()->check(not_empty("a folder"));
  cmd->add_option("--out", o->out, "The page [report.html in the run, or here for several]")
      ->check(not_empty("a file"));
  cmd->add_option("--samples", o->samples, "Texts of each run's newest checkpoint")
      ->check(at_least(0, 100))
      ->capture_default_str();
  cmd->add_option("--tokens", o->tokens, "Of each of them")->check(at_least(1, 10'000))->capture_default_str();
  cmd->add_option("--threads", o->threads, "[every usable core]")->check(thread_count());
  cmd->add_flag("--json", o->json, "One JSON object");
  cmd->footer("Example:\n  xlstm report runs/exp runs/sig --out exp_and_sig.html");
  cmd->callback([o] { report(*o); });
}

}  // namespace xlstm
