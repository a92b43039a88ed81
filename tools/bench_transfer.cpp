// xlstm bench transfer: how much of the values comes through the cell, by input and forget gate (spec.md, 8.3)
#include <cmath>

#include "core/random.h"
#include "tools/bench.h"
#include "tools/bench_rig.h"
#include "train/html.h"
#include "train/plot.h"

namespace xlstm {

namespace {

constexpr i64 kTokens = 512, kWidth = 128;  // one sequence, one head, q k v of N(0, 1)
constexpr double kEps[] = {1e-2, 1e-6, 1e-8};
constexpr double kForget[] = {-5, 0, 5, 12};

struct Options {
  std::string plot;
  BenchOutput out;
};

struct Gain {
  InputGate gate;
  double eps, i, f;      // pre-activations, the same for every token
  double before, after;  // the head's norm: largest magnitude of the output over that of v, mean over the tokens
};

double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

class Transfer {
 public:
  Transfer()
      : buffer_(i64{1} << 26), arena_("transfer", buffer_.data(), buffer_.bytes()), ctx_(machine_.context(arena_)) {
    for (Tensor* t : {&q_, &k_, &v_, &h_, &y_}) *t = arena_.alloc("rows", DType::f32, kTokens, kWidth);
    for (Tensor* t : {&log_.i, &log_.f, &stats_.denominator, &stats_.max, &rstd_})
      *t = arena_.alloc("gates", DType::f32, kTokens, 1);
    ones_ = arena_.alloc("ones", DType::f32, 1, kWidth);
    ops::fill(ctx_, ones_, 1);
    std::uint64_t which = 0;
    for (const Tensor& t : {q_, k_, v_}) {
      const RandomStream random(1, RandomUse::bench, which++);
      for (i64 n = 0; n < t.size(); ++n)
        t.row<float>()[n] = static_cast<float>(random.normal(static_cast<std::uint64_t>(n)));
    }
    const CellShape shape = shape_of(InputGate::exp);
    workspace_ = arena_.alloc("workspace", DType::f32, 1,
                              mlstm_workspace_elements(Device::cpu, DType::f32, shape, kTokens, kWidth, kWidth,
                                                       max_threads(), /*backward=*/false));
  }

  Gain measure(InputGate gate, double i, double f, double eps) {
    ops::fill(ctx_, log_.i, gate == InputGate::exp ? i : log_sigmoid(i));
    ops::fill(ctx_, log_.f, log_sigmoid(f));
    const CellStats stats = gate == InputGate::exp ? stats_ : CellStats{};
    ops::mlstm_forward(ctx_, h_, stats, {}, {.q = q_, .k = k_, .v = v_, .log = log_}, {}, shape_of(gate), workspace_);
    ops::rmsnorm_forward(ctx_, y_, rstd_, h_, ones_, eps);
    return {gate, eps, i, f, gain(h_), gain(y_)};
  }

 private:
  static CellShape shape_of(InputGate gate) {
    return {.sequences = 1, .heads = 1, .chunk = 64, .normalize = gate == InputGate::exp, .eps = 1e-6};
  }
  static double largest(const Tensor& t, i64 row) {
    double most = 0;
    for (i64 j = 0; j < t.cols; ++j) most = std::max(most, static_cast<double>(std::abs(t.row<float>(row)[j])));
    return most;
  }
  double gain(const Tensor& t) const {
    double sum = 0;
    for (i64 row = 0; row < kTokens; ++row) sum += largest(t, row) / largest(v_, row);
    return sum / static_cast<double>(kTokens);
  }

  Machine machine_;
  Buffer buffer_;
  Arena arena_;
  Context ctx_;
  Tensor q_, k_, v_, h_, y_, rstd_, ones_, workspace_;
  Gates log_;
  CellStats stats_;
};

std::vector<Gain> measure_all() {
  Transfer transfer;
  std::vector<Gain> all;
  for (const InputGate gate : {InputGate::exp, InputGate::sigmoid})
    for (const double eps : kEps)
      for (const double f : kForget)
        for (double i = -12; i <= 8; i += 0.5) all.push_back(transfer.measure(gate, i, f, eps));
  return all;
}

// A picture per eps and one of the cell alone: gain against the input gate, a colour per forget gate, dashed sigmoid.
void write_plot(const std::string& file, const std::vector<Gain>& all) {
  std::vector<Plot> plots;
  const auto add = [&](const std::string& title, double eps, double Gain::*gain) {
    Plot plot{.title = title, .x_label = "input gate pre-activation"};
    for (const InputGate gate : {InputGate::exp, InputGate::sigmoid})
      for (std::size_t f = 0; f < std::size(kForget); ++f) {
        plot.series.push_back({.points = {}, .color = static_cast<int>(f), .dashed = gate == InputGate::sigmoid});
        for (const Gain& g : all)
          if (g.gate == gate && g.eps == eps && g.f == kForget[f]) plot.series.back().points.emplace_back(g.i, g.*gain);
      }
    plots.push_back(plot);
  };
  for (const double eps : kEps) add(fmt::format("gain after the norm, eps {}", eps), eps, &Gain::after);
  add("gain of the cell alone, logarithmic", kEps[0], &Gain::before);
  plots.back().log_y = true;
  const std::vector<std::string> drawn = draw_svg(plots);
  if (drawn[0].empty()) throw user_error("--plot: gnuplot (Debian: gnuplot-nox) is needed");
  std::string body =
      "<h1>What comes through the cell</h1>\n<p>Lines: exponential input gate; dashed: sigmoid. "
      "Forget gate pre-activation by colour.</p>\n<ul class=\"legend\">";
  for (std::size_t f = 0; f < std::size(kForget); ++f)
    body +=
        fmt::format("<li><span class=\"dot\" style=\"background:var(--series-{})\"></span>{}</li>\n", f, kForget[f]);
  body += "</ul>\n<div class=\"plots\">\n";
  for (std::size_t p = 0; p < plots.size(); ++p)
    body += "<figure><figcaption>" + html_text(plots[p].title) + "</figcaption>" + drawn[p] + "</figure>\n";
  write_file_atomically(file, html_page("transfer behaviour", body + "</div>\n"));
}

BenchResult bench_transfer(const Options& o) {
  set_threads(static_cast<int>(o.out.threads));
  const std::vector<Gain> all = measure_all();
  BenchResult r;
  Json rows = Json::array();
  r.text = fmt::format("gain after the head's norm, forget gate 5\n{:>8}", "i");
  for (const double eps : kEps) r.text += fmt::format("{:>12}{:>12}", fmt::format("exp {}", eps), "sig");
  r.text += "\n";
  for (double i = -12; i <= 8; i += 2) {
    r.text += fmt::format("{:>8}", i);
    for (const double eps : kEps)
      for (const Gain& g : all)
        if (g.i == i && g.f == 5 && g.eps == eps) r.text += fmt::format("{:>12.4f}", g.after);
    r.text += "\n";
  }
  for (const Gain& g : all)
    rows.push_back({{"input_gate", names_of(g.gate)[static_cast<std::size_t>(g.gate)]},
                    {"eps", g.eps},
                    {"i", g.i},
                    {"f", g.f},
                    {"gain", g.before},
                    {"gain_after_norm", g.after}});
  r.json = {{"bench", "transfer"}, {"tokens", kTokens}, {"width", kWidth}, {"gains", rows}};
  if (!o.plot.empty()) write_plot(o.plot, all);
  return r;
}

}  // namespace

void add_bench_transfer(CLI::App& bench) {
  auto* cmd = bench.add_subcommand("transfer", "Gain of the cell by input and forget gate, before and after the norm");
  auto o = std::make_shared<Options>();
  cmd->add_option("--plot", o->plot, "A page with the curves")->each([](const std::string& file) {
    check_output_file(file, "--plot");
  });
  o->out.add_to(*cmd);
  cmd->footer("Example:\n  xlstm bench transfer --plot transfer.html");
  cmd->callback([o] { publish(bench_transfer(*o), o->out.json, o->out.save); });
}

}  // namespace xlstm
