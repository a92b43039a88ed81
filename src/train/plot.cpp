#include "train/plot.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "core/file.h"
#include "core/process.h"
#include "train/html.h"

namespace xlstm {

namespace {

constexpr int kWidth = 400, kHeight = 260;

// Colours that stand for others until the picture is drawn: rgb(1,1,1) and so on (with_css_colors).
constexpr const char* kInk = "#010101";
constexpr const char* kGrid = "#020202";
std::string series_color(int n) { return fmt::format("#0a00{:02x}", n % kSeriesColors); }

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "xlstm_plot_XXXXXX").string();
    if (!mkdtemp(name.data())) throw user_error("cannot make a folder in {}", fs::temp_directory_path().string());
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// Finite, and above 0 where the axis is logarithmic.
bool drawable(const Plot& p, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!p.log_y || y > 0) && (!p.log_x || x > 0);
}

bool has_curve(const Plot& p) {
  return std::any_of(p.series.begin(), p.series.end(), [&](const Series& s) {
    return std::count_if(s.points.begin(), s.points.end(),
                         [&](const auto& point) { return drawable(p, point.first, point.second); }) >= 2;
  });
}

// The unit in which the largest x is a number of one to three digits, and its name: 1e6, " (millions)".
std::pair<double, const char*> unit_of(const Plot& p) {
  double largest = 0;
  for (const Series& s : p.series)
    for (const auto& [x, y] : s.points)
      if (drawable(p, x, y)) largest = std::max(largest, x);
  if (largest >= 1e9) return {1e9, " (billions)"};
  if (largest >= 1e6) return {1e6, " (millions)"};
  return largest >= 1e4 ? std::pair{1e3, " (thousands)"} : std::pair{1.0, ""};
}

// Curves that coincide are seen: the first color is the widest, and shows on both sides of what lies upon it.
double width_of(const Plot& p, const Series& s) {
  int last = 0;
  for (const Series& other : p.series) last = std::max(last, other.color);
  return 1.5 + (last > 0 ? 1.6 * (last - s.color) / last : 0);
}

std::string script_of(const Plot& p, std::size_t number, const fs::path& svg) {
  const auto [unit, unit_name] = unit_of(p);
  std::string text = fmt::format(
      "reset\nset terminal svg size {},{} dynamic font 'sans-serif,12' name 'p{}'\nset output '{}'\n"
      "set border 3 lc rgb '{}'\nset tics nomirror textcolor rgb '{}'\nset grid lc rgb '{}' lt 1 lw 0.5\nunset key\n"
      "set autoscale xfix\nset xlabel '{}{}' textcolor rgb '{}'\n",
      kWidth, kHeight, number, svg.string(), kInk, kInk, kGrid, p.x_label, unit_name, kInk);
  if (p.log_y) text += "set logscale y\nset format y '%.0e'\n";
  if (p.log_x) text += "set logscale x 2\n";
  if (p.from_zero) text += "set yrange [0:*]\n";
  std::string plots;
  for (std::size_t i = 0; i < p.series.size(); ++i) {
    const Series& s = p.series[i];
    text += fmt::format("$d{} << EOD\n", i);
    for (const auto& [x, y] : s.points)
      text += drawable(p, x, y) ? fmt::format("{:.9g} {:.9g}\n", x / unit, y) : "\n";  // an empty line is a gap
    text += "NaN NaN\nEOD\n";
    plots += fmt::format("{}$d{} using 1:2 with lines lw {:.2f} dt {} lc rgb '{}'", i == 0 ? "plot " : ", ", i,
                         width_of(p, s), s.dashed ? 2 : 1, series_color(s.color));
  }
  return text + plots + "\nunset output\n";
}

// What a page's style sheet decides: rgb(10, 0, N) is series N, rgb(2, ...) the grid.
std::string with_css_colors(const std::string& svg) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t found = svg.find("rgb("); found != std::string::npos; found = svg.find("rgb(", at)) {
    int red = 0, green = 0, blue = 0;
    std::size_t end = svg.find(')', found);
    if (end == std::string::npos ||
        std::sscanf(svg.c_str() + found, "rgb(%d ,%d ,%d", &red, &green, &blue) != 3) {  // NOLINT(cert-err34-c)
      out.append(svg, at, found + 4 - at);
      at = found + 4;
      continue;
    }
    out.append(svg, at, found - at);
    out += red == 10 && green == 0 ? fmt::format("var(--series-{})", blue) : red == 2 ? "var(--grid)" : "currentColor";
    at = end + 1;
  }
  return out.append(svg, at, svg.size() - at);
}

// Without every ` name="..."`.
std::string without_attribute(std::string svg, const std::string& name) {
  const std::string begin = " " + name + "=\"";
  for (std::size_t at = svg.find(begin); at != std::string::npos; at = svg.find(begin, at)) {
    const std::size_t end = svg.find('"', at + begin.size());
    svg.erase(at, end == std::string::npos ? end : end + 1 - at);
  }
  return svg;
}

// Only the drawing itself: without the XML head, and the definitions that plots on one page would share by name.
std::string inline_svg(const std::string& svg, const std::string& title) {
  const std::size_t head = svg.find("<svg"), canvas = svg.find("<g id=\"gnuplot_canvas\">");
  const std::size_t defs = svg.find("<defs>"), after = svg.find("</defs>");
  if (head == std::string::npos || canvas == std::string::npos || defs == std::string::npos || after < defs) return "";
  std::string body = "<g>" + svg.substr(after + 7);
  return fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight, html_text(title)) +
         with_css_colors(without_attribute(without_attribute(body, "id"), "color"));
}

}  // namespace

bool can_plot() { return program_is_there("gnuplot"); }

std::vector<std::string> draw_svg(const std::vector<Plot>& plots) {
  std::vector<std::string> drawn(plots.size());
  if (!can_plot()) return drawn;
  const TemporaryFolder dir;
  std::string script;
  const auto svg = [&](std::size_t i) { return dir / fmt::format("{}.svg", i); };
  for (std::size_t i = 0; i < plots.size(); ++i)
    if (has_curve(plots[i])) script += script_of(plots[i], i, svg(i));
  write_file_atomically(dir / "plots.gp", script);
  if (!run_program({"gnuplot", (dir / "plots.gp").string()})) return drawn;
  for (std::size_t i = 0; i < plots.size(); ++i)
    if (fs::exists(svg(i))) drawn[i] = inline_svg(read_file(svg(i)), plots[i].title);
  return drawn;
}

std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points, std::size_t most,
                                               Thin how) {
  if (points.size() <= most) return points;
  std::vector<std::pair<double, double>> out;
  for (std::size_t bin = 0; bin < most; ++bin) {
    const std::size_t begin = bin * points.size() / most, end = (bin + 1) * points.size() / most;
    double x = 0, sum = 0, largest = -std::numeric_limits<double>::infinity();
    i64 finite = 0;
    for (std::size_t i = begin; i < end; ++i) {
      x += points[i].first / static_cast<double>(end - begin);
      if (!std::isfinite(points[i].second)) continue;
      ++finite;
      sum += points[i].second;
      largest = std::max(largest, points[i].second);
    }
    const double mean = finite > 0 ? sum / static_cast<double>(finite) : std::numeric_limits<double>::quiet_NaN();
    out.emplace_back(x, finite > 0 && how == Thin::largest ? largest : mean);
  }
  return out;
}

}  // namespace xlstm
