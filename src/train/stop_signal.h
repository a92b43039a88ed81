#pragma once
namespace xlstm {

// SIGTERM and SIGINT ask a run to save and end; the second one ends it at once. Installed for as long as it lives.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  static const char* received();  // "SIGTERM", "SIGINT" or nullptr
};

}  // namespace xlstm
