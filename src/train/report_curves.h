#pragma once
#include "train/plot.h"
#include "train/report.h"

namespace xlstm {

// A figure per quantity, a colour per run; or one line that says what is missing to draw them.
std::string curves_html(const std::vector<ReportedRun>& runs);

}  // namespace xlstm
