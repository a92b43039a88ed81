#pragma once
// Where the time of training steps goes: the operator classes, waiting for data, and what is left.
#include <string>

#include "core/json.h"
#include "core/profile.h"

namespace xlstm {

struct StepProfile {
  Profile ops;
  double seconds = 0, data_wait = 0;  // of all steps, measured around them
  i64 steps = 0;

  void add_step(double step_seconds, double waited);
  StepProfile since(const StepProfile& before) const;  // of the steps after that one

  // A row per class of ms per step, share of the step, operations, bytes and the rates of both; then `data`, and
  // `idle`: what of the step lies in no class. They add up to the step.
  struct Row {
    std::string name;
    double seconds = 0, share = 0, flops = 0, bytes = 0;  // of one step
  };
  std::vector<Row> rows() const;
  std::string table() const;
  Json to_json() const;
};

}  // namespace xlstm
