#pragma once
// Rank 0 alone writes to the log. What the others warn of waits here until the ranks meet, and gets to the log with the
// rank before it.
#include "dist/communicator.h"

namespace xlstm {

class RankLog {
 public:
  // Takes over the log of this process for as long as it lives, unless it is rank 0's.
  explicit RankLog(Communicator& ranks);
  ~RankLog();  // what is left goes to this process's own log
  RankLog(const RankLog&) = delete;
  RankLog& operator=(const RankLog&) = delete;

  static bool waiting();                     // something does, in this process
  static void pass_on(Communicator& ranks);  // every rank calls it

 private:
  Communicator& ranks_;
};

}  // namespace xlstm
