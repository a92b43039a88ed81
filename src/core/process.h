#pragma once
#include <string>
#include <vector>

namespace xlstm {

// Runs a program of the PATH to its end, with nothing on stdin and its output thrown away. False when there is no such
// program, or it does not end with 0.
bool run_program(const std::vector<std::string>& words);
bool program_is_there(const std::string& name);  // in the PATH

}  // namespace xlstm
