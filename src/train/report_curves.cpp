#include "train/report_curves.h"

#include <cmath>
#include <map>
#include <set>

#include "train/html.h"

namespace xlstm {

namespace {

constexpr std::size_t kMostPoints = 500;  // of a curve

using Points = std::vector<std::pair<double, double>>;

template <class F>
Points over_steps(const RunMetrics& m, Thin how, F&& value) {
  Points points;
  for (const StepMetrics& s : m.steps) points.emplace_back(static_cast<double>(s.tokens), value(s));
  return thinned(points, kMostPoints, how);
}

Points over_evaluations(const RunMetrics& m, double (*value)(double)) {
  Points points;
  for (const EvaluationMetrics& e : m.evaluations) points.emplace_back(static_cast<double>(e.tokens), value(e.loss));
  return points;
}

// What tells it from another set of that name: its fingerprint, or where that was not recorded, its folder.
std::string text_of_set(const ReportedRun& run, const std::string& name) {
  if (const auto it = run.data.evaluation.find(name); it != run.data.evaluation.end()) return it->second.substr(0, 12);
  const auto folder = run.settings.find(key_of_evaluation_set(name));
  return folder == run.settings.end() ? "" : folder->second;
}

// Nothing, where it was evaluated on other text by that name.
Series of_set(const ReportedRun& run, const std::string& name, const std::string& text) {
  Points points;
  if (const auto it = run.metrics.sets.find(name); it != run.metrics.sets.end() && text_of_set(run, name) == text)
    for (const SetMetrics& e : it->second) points.emplace_back(static_cast<double>(e.tokens), e.loss);
  return {points, static_cast<int>(run.color), /*dashed=*/false};
}

// Whether two runs have read the same tokens in the same order: their losses then differ by what the models differ in.
bool same_batches(const ReportedRun& a, const ReportedRun& b) {
  for (const char* key : {"run.seed", "data.packing", "train.batch_size", "train.context_length"}) {
    const auto of_a = a.settings.find(key), of_b = b.settings.find(key);
    if (of_a == a.settings.end() || of_b == b.settings.end() || of_a->second != of_b->second) return false;
  }
  return !a.data.training.empty() && a.data.training == b.data.training;
}

// At the tokens that both have.
template <class List>
Points difference(const List& list, const List& reference) {
  std::map<i64, double> there;
  for (const auto& entry : reference) there[entry.tokens] = entry.loss;
  Points points;
  for (const auto& entry : list)
    if (const auto it = there.find(entry.tokens); it != there.end())
      points.emplace_back(static_cast<double>(entry.tokens), entry.loss - it->second);
  return points;
}

class Curves {
 public:
  explicit Curves(const std::vector<ReportedRun>& runs) : runs_(runs) {}

  template <class F>
  Plot& of_steps(const std::string& title, F&& value, Thin how = Thin::mean) {
    Plot& plot = add(title);
    for (std::size_t r = 0; r < runs_.size(); ++r)
      plot.series.push_back(
          {over_steps(runs_[r].metrics, how, value), static_cast<int>(runs_[r].color), /*dashed=*/false});
    return plot;
  }
  Plot& of_evaluations(const char* title, double (*value)(double)) {
    Plot& plot = add(title);
    for (std::size_t r = 0; r < runs_.size(); ++r)
      plot.series.push_back(
          {over_evaluations(runs_[r].metrics, value), static_cast<int>(runs_[r].color), /*dashed=*/false});
    return plot;
  }
  // A second quantity in the same picture.
  template <class F>
  void also(Plot& plot, F&& value) {
    for (std::size_t r = 0; r < runs_.size(); ++r)
      plot.series.push_back(
          {over_steps(runs_[r].metrics, Thin::mean, value), static_cast<int>(runs_[r].color), /*dashed=*/true});
  }
  // Nothing of the runs that have no reference, or in training another order of the data than it.
  void of_differences() {
    Plot training{.title = "training loss, difference to the first on the same batches", .x_label = "tokens"};
    Plot validation{.title = "validation loss, difference to the first", .x_label = "tokens"};
    for (const ReportedRun& run : runs_) {
      if (!run.reference) continue;
      const ReportedRun& first = runs_[*run.reference];
      const int color = static_cast<int>(run.color);
      validation.series.push_back({difference(run.metrics.evaluations, first.metrics.evaluations), color});
      if (same_batches(run, first))
        training.series.push_back(
            {thinned(difference(run.metrics.steps, first.metrics.steps), kMostPoints, Thin::mean), color});
    }
    plots_.insert(plots_.end(), {training, validation});
  }
  // Every set that a run has; of one name, other text apart.
  void of_sets() {
    std::map<std::string, std::set<std::string>> texts;
    for (const ReportedRun& run : runs_)
      for (const auto& [name, unused] : run.metrics.sets) texts[name].insert(text_of_set(run, name));
    for (const auto& [name, all] : texts)
      for (const std::string& text : all) {
        Plot& plot = add("loss on " + name + (all.size() > 1 ? " (" + text + ")" : ""));
        for (const ReportedRun& run : runs_) plot.series.push_back(of_set(run, name, text));
      }
  }
  // Every operator class in which a profiled run has spent time.
  void of_classes() {
    std::set<std::string> names;
    for (const ReportedRun& run : runs_)
      for (const StepMetrics& s : run.metrics.steps)
        for (const auto& [name, seconds] : s.class_seconds)
          if (seconds > 0) names.insert(name);
    for (const std::string& name : names)
      of_steps("time in " + name + ", ms of a step", [name](const StepMetrics& s) {
        const auto it = s.class_seconds.find(name);
        return it == s.class_seconds.end() ? NAN : 1e3 * it->second;
      }).from_zero = true;
  }
  const std::vector<Plot>& plots() const { return plots_; }

 private:
  Plot& add(const std::string& title) {
    plots_.push_back({.title = title, .x_label = "tokens", .series = {}});
    return plots_.back();
  }
  const std::vector<ReportedRun>& runs_;
  std::vector<Plot> plots_;
};

std::vector<Plot> plots_of(const std::vector<ReportedRun>& runs) {
  Curves c(runs);
  c.of_steps("training loss", [](const StepMetrics& s) { return s.loss; });
  c.of_evaluations("validation loss", [](double loss) { return loss; });
  c.of_evaluations("validation perplexity", [](double loss) { return std::exp(loss); });
  c.of_differences();
  c.of_sets();
  c.of_steps(
       "gradient norm, largest of each stretch", [](const StepMetrics& s) { return s.grad_norm; }, Thin::largest)
      .log_y = true;
  c.of_steps("learning rate", [](const StepMetrics& s) { return s.lr; }).from_zero = true;
  c.of_steps("tokens per second", [](const StepMetrics& s) { return s.tokens_per_second; }).from_zero = true;
  c.also(c.of_steps("input gate pre-activation: largest, and smallest (dashed)",
                    [](const StepMetrics& s) { return s.input_gate_max; }),
         [](const StepMetrics& s) { return s.input_gate_min; });
  c.also(c.of_steps("forget gate pre-activation: largest, and smallest (dashed)",
                    [](const StepMetrics& s) { return s.forget_gate_max; }),
         [](const StepMetrics& s) { return s.forget_gate_min; });
  c.of_steps("waiting for data, share of the step", [](const StepMetrics& s) {
     return s.data_wait / s.seconds;
   }).from_zero = true;
  c.of_classes();
  return c.plots();
}

}  // namespace

std::string curves_html(const std::vector<ReportedRun>& runs) {
  if (!can_plot()) return "<p>No curves: gnuplot is not installed (Debian: gnuplot-nox).</p>\n";
  const std::vector<Plot> plots = plots_of(runs);
  const std::vector<std::string> drawn = draw_svg(plots);
  std::string text;
  for (std::size_t i = 0; i < plots.size(); ++i)
    if (!drawn[i].empty())
      text += "<figure><figcaption>" + html_text(plots[i].title) + "</figcaption>\n" + drawn[i] + "</figure>\n";
  return text.empty() ? "<p>No curves yet: two steps or two evaluations are needed.</p>\n"
                      : "<div class=\"plots\">\n" + text + "</div>\n";
}

}  // namespace xlstm
