#pragma once
// report.html: what runs have come to, as one page that needs no network, no scripts and no other file.
#include "core/json.h"
#include "train/comparison.h"
#include "train/run_data.h"
#include "train/samples.h"

namespace xlstm {

// A run's folder as a report reads it. Everything but metrics.jsonl and config.yaml may be missing.
struct ReportedRun {
  std::string name;
  RunMetrics metrics;
  std::map<std::string, std::string> settings;  // by key
  Json environment;                             // of the last start, or null
  DataIdentity data;                            // as far as it is known
  i64 starts = 0;
  std::size_t color = 0;                 // of its curves; runs of one arm share it
  std::optional<std::size_t> reference;  // which of the page's runs its differences are to; that one has none
  std::vector<std::string> samples;      // text, prompt included
  std::vector<Sample> prompted;          // of the last evaluation of its training
  std::vector<std::string> anomalies;    // evidence of the guard: names in anomalies/

  // UserError when the folder is no run, or has no metrics yet.
  static ReportedRun read(const fs::path& folder);
};

// The page. `arms`: a comparison whose runs these are. UserError when the runs cannot be compared, saying why: models
// that were evaluated on different data.
std::string report_page(const std::vector<ReportedRun>& runs, const Comparison* arms = nullptr);

// Reads the run and writes report.html into it. Never throws: a report that fails is a warning.
void write_run_report(const fs::path& run);

}  // namespace xlstm
