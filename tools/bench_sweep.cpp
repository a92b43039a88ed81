// xlstm bench sweep: the time of each operator class against the length of the context, at the same number of tokens
#include <algorithm>
#include <charconv>

#include "core/text.h"
#include "tools/bench.h"
#include "train/html.h"
#include "train/plot.h"

namespace xlstm {

namespace {

struct Options {
  std::string config, plot;
  std::vector<std::string> set;
  std::string contexts = "512..4096";
  i64 tokens = 0, steps = 3;
  BenchOutput out;
};

struct Measured {
  i64 context;
  double seconds;  // of a step, without the profile
  std::vector<StepProfile::Row> rows;
};

// "512,1024" or "512..65536", or both.
std::vector<i64> lengths_of(const std::string& text) {
  constexpr i64 kLongest = 1 << 24;
  std::vector<i64> lengths;
  const auto number = [&](std::string_view part) {
    i64 n = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), n);
    if (error != std::errc() || end != part.data() + part.size() || n < 1 || n > kLongest)
      throw user_error("--context {}: '{}' is no length; expected 1 to {}, as in 512,1024 or 512..65536", text, part,
                       kLongest);
    return n;
  };
  for (std::string_view left = text;;) {
    const std::string_view item = left.substr(0, left.find(','));
    const std::size_t dots = item.find("..");
    const i64 first = number(item.substr(0, dots)), last = dots == item.npos ? first : number(item.substr(dots + 2));
    if (last < first) throw user_error("--context {}: {} is above {}", text, first, last);
    for (i64 n = first; n <= last; n *= 2) lengths.push_back(n);
    if (item.size() == left.size()) return lengths;
    left.remove_prefix(item.size() + 1);
  }
}

std::vector<Measured> sweep(const Options& o) {
  std::vector<Measured> all;
  const TrainConfig first = load_train_config(o.config, o.set);
  const std::vector<i64> contexts = lengths_of(o.contexts);
  const i64 tokens = o.tokens > 0 ? o.tokens : *std::max_element(contexts.begin(), contexts.end());
  set_threads(static_cast<int>(o.out.threads > 0 ? o.out.threads : first.run.threads));
  const Machine machine(first.run);
  for (const i64 context : contexts) {
    if (tokens % context != 0)
      throw user_error("--context {}: does not divide the {} tokens of a step (--tokens)", context, tokens);
    TrainConfig cfg = first;
    cfg.train.context_length = context;
    cfg.train.batch_size = cfg.train.micro_batch_size = tokens / context;
    cfg.parallel.reduction_slots = 1;
    cfg.resolve();
    StepTimes times = time_steps(cfg, machine, o.steps, /*warmup=*/1);
    all.push_back({context, times.median(), times.profile.rows()});
  }
  return all;
}

void write_plot(const std::string& file, const std::vector<Measured>& all) {
  Plot plot{.title = "milliseconds of a step, by operator class", .x_label = "context, tokens", .log_x = true};
  plot.from_zero = true;
  std::string legend;
  for (std::size_t c = 0; c < all[0].rows.size(); ++c) {
    Series s{.points = {}, .color = static_cast<int>(c), .dashed = c >= kSeriesColors};
    for (const Measured& m : all) s.points.emplace_back(static_cast<double>(m.context), 1e3 * m.rows[c].seconds);
    plot.series.push_back(s);
    legend += fmt::format("<li><span class=\"dot\" style=\"background:var(--series-{})\"></span>{}{}</li>\n",
                          c % kSeriesColors, html_text(all[0].rows[c].name), s.dashed ? " (dashed)" : "");
  }
  const std::string svg = draw_svg({plot})[0];
  if (svg.empty()) throw user_error("--plot: gnuplot (Debian: gnuplot-nox) and two contexts at least are needed");
  write_file_atomically(file, html_page("context sweep", "<h1>" + plot.title + "</h1>\n<ul class=\"legend\">" + legend +
                                                             "</ul>\n<figure>" + svg + "</figure>\n"));
}

BenchResult bench_sweep(const Options& o) {
  const std::vector<Measured> all = sweep(o);
  BenchResult r;
  r.text = fmt::format("{:<14}", "ms per step");
  for (const Measured& m : all) r.text += fmt::format("{:>10}", m.context);
  r.text += "\n";
  for (std::size_t c = 0; c < all[0].rows.size(); ++c) {
    r.text += fmt::format("{:<14}", all[0].rows[c].name);
    for (const Measured& m : all) r.text += fmt::format("{:>10.2f}", 1e3 * m.rows[c].seconds);
    r.text += "\n";
  }
  Json rows = Json::array();
  for (const Measured& m : all) {
    Json classes = Json::object();
    for (const auto& row : m.rows) classes[row.name] = row.seconds;
    rows.push_back({{"context", m.context}, {"seconds_per_step", m.seconds}, {"classes", classes}});
  }
  r.json = {{"bench", "sweep"}, {"threads", max_threads()}, {"contexts", rows}};
  if (!o.plot.empty()) write_plot(o.plot, all);
  return r;
}

}  // namespace

void add_bench_sweep(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("sweep", "Time per operator class against the context, at constant tokens");
  auto o = std::make_shared<Options>();
  cmd->add_option("--config", o->config, "YAML file (configs/, bench/configs/)")->required();
  cmd->add_option("--set", o->set, "Override a key of the config: key=value; may be repeated")->allow_extra_args(false);
  cmd->add_option("--context", o->contexts, "Lengths, with commas between them; A..B: A, 2 A, 4 A, up to B")
      ->capture_default_str();
  cmd->add_option("--tokens", o->tokens, "Of every step [the longest context]")->check(at_least(1, i64{1} << 31));
  cmd->add_option("--steps", o->steps, "Steps that are timed")->check(at_least(1, 1000))->capture_default_str();
  cmd->add_option("--plot", o->plot, "A page with the curves")->each([](const std::string& file) {
    check_output_file(file, "--plot");
  });
  o->out.add_to(*cmd);
  cmd->footer(
      "Example:\n  xlstm bench sweep --config bench/configs/tiny.yaml --context 512,1024,2048 --plot sweep.html");
  cmd->callback([o] { publish(bench_sweep(*o), o->out.json, o->out.save); });
}

}  // namespace xlstm
