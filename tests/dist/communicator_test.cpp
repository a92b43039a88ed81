// What ranks tell each other.
#include "dist/communicator.h"

#include <gmock/gmock.h>

#include "tests/support/thread_ranks.h"

namespace xlstm {
namespace {

TEST(Communicator, TextsComeInTheOrderOfRanks) {
  const auto wrong = run_ranks(4, [](Communicator& ranks) {
    const std::string mine(static_cast<std::size_t>(3 * ranks.rank()), static_cast<char>('a' + ranks.rank()));
    EXPECT_THAT(ranks.gather_texts("texts", mine), testing::ElementsAre("", "bbb", "cccccc", "ddddddddd"));
  });
  EXPECT_THAT(wrong, testing::Each(""));
}

TEST(Communicator, WhatOneCannotDoNoneDoes) {
  const auto wrong = run_ranks(3, [](Communicator& ranks) {
    ranks.together("work", [] {});
    ranks.together("work", [&] {
      if (ranks.rank() == 2) throw user_error("no disk");
    });
    ADD_FAILURE() << "rank " << ranks.rank() << " went on";
  });
  EXPECT_THAT(wrong, testing::Each("rank 2 (thread): no disk"));
}

TEST(Communicator, WhatAllSayIsSaidOnce) {
  const auto wrong =
      run_ranks(3, [](Communicator& ranks) { ranks.together("work", [] { throw user_error("no such key"); }); });
  EXPECT_THAT(wrong, testing::Each("no such key"));
}

TEST(Communicator, OneProcessThrowsWhatIsThrown) {
  const auto alone = make_single_process_communicator();
  EXPECT_THROW(alone->together("work", [] { throw user_error("x"); }), UserError);
  EXPECT_THAT(alone->gather_texts("texts", "mine"), testing::ElementsAre("mine"));
}

}  // namespace
}  // namespace xlstm
