#pragma once
// Curves as SVG, drawn by gnuplot: text and axes in the colour of the text around them, series number n in the CSS
// colour --series-n, the grid in --grid; so that a page can be light or dark.
#include <string>
#include <vector>

namespace xlstm {

struct Series {
  std::vector<std::pair<double, double>> points;  // in the order of x; what is not finite is a gap
  int color = 0;                                  // 0 to 7
  bool dashed = false;
};

struct Plot {
  std::string title, x_label;
  bool log_y = false, log_x = false;
  bool from_zero = false;  // the y axis begins there
  std::vector<Series> series;
};

constexpr int kSeriesColors = 8;

bool can_plot();  // whether gnuplot is there

// An <svg> element for each plot, in their order; "" for one without two points. All empty when gnuplot fails.
std::vector<std::string> draw_svg(const std::vector<Plot>& plots);

// At most so many points: the mean of x, and of y the mean or, for what is looked at for its peaks, the largest.
enum class Thin { mean, largest };
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points, std::size_t most,
                                               Thin how);

}  // namespace xlstm
