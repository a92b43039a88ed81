#pragma once
namespace xlstm {

// SIGTERM, SIGINT, SIGUSR1 (which mpirun passes on to its ranks without killing them) and, unless nohup has it ignored,
// SIGHUP ask a run to save and end; a second SIGTERM or SIGINT ends it at once. Installed for as long as the
// outermost of them lives; an inner one sees what has come before it. SIGPIPE is ignored from then on: whoever reads
// the log may go.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  static const char* received();  // the name of the last one, or nullptr

 private:
  bool has_stack_ = false;  // it has given its thread a stack for signals
};

}  // namespace xlstm
