#pragma once
// The processes that the same launcher has started beside this one on this host, as /proc has them: for the line that
// tells who does not come before ranks know of each other.
#include <string>

namespace xlstm {

struct Siblings {
  std::string hanging;  // "rank 1 (host) is stopped, rank 3 (host) runs 'sleep'"; "" where nothing is seen
  int before_this = 0;  // ranks of lower numbers that are well
};
Siblings siblings_of_this_process();

}  // namespace xlstm
