// Where builds work: what they may delete, what interrupts them, and two of them at once.
#include "data/dataset_builder.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/data/dataset_case.h"
#include "tests/support/mutate.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class BuilderTest : public DatasetTest {
 protected:
  ~BuilderTest() override { file_call_hook = nullptr; }
  fs::path partial() const { return dir_ / "out.partial"; }
  fs::path replaced() const { return dir_ / "out.replaced"; }

  // The build, ended after its work and before it takes its name, as a kill there leaves it.
  void build_and_die(const DatasetBuild& build) {
    const pid_t child = fork();
    if (child == 0) {
      file_call_hook = [&](const char* call) {
        const bool whole = fs::exists(partial() / "build.json") && fs::exists(partial() / "train/manifest.json");
        if (std::string(call) == "rename" && whole) _exit(0);
        return 0;
      };
      build_dataset(build);
      _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
};

// Nothing that a build has not made is deleted, wherever it lies; the message names it.
TEST_F(BuilderTest, OthersFilesAreInTheWayAndStay) {
  DatasetBuild build = build_of({json_file(20)}, "out");
  build_dataset(build);
  const auto built = content_of(build.out);
  build.overwrite = true;
  for (const std::string name : {"out.partial/photos/a.jpg", "out.partial/train/a.jpg", "out.partial/build.json",
                                 "out.replaced/b.txt", "out.replaced/lock", "out.replaced", "out/notes.txt"}) {
    SCOPED_TRACE(name);
    write_text(dir_ / name, "mine");
    const std::string message = user_error_of([&] { build_dataset(build); });
    EXPECT_THAT(message, AllOf(HasSubstr(name.substr(0, name.find('/'))), HasSubstr("move it away")));
    EXPECT_EQ(read_file(dir_ / name), "mine");
    fs::remove_all(name == "out/notes.txt" ? dir_ / name : dir_ / name.substr(0, name.find('/')));
    EXPECT_EQ(content_of(build.out), built);
  }
  EXPECT_FALSE(fs::exists(partial()));
}

// A finished data set is no working folder, though every file in it is of a build.
TEST_F(BuilderTest, ADataSetWithTheNameOfAWorkingFolderStays) {
  const std::string input = json_file(20);
  for (const std::string name : {"out.partial", "out.replaced"}) {
    build_dataset(build_of({input}, name));
    const auto before = content_of(dir_ / name);
    EXPECT_THAT(user_error_of([&] { build_dataset(build_of({input}, "out")); }), HasSubstr(name));
    EXPECT_EQ(content_of(dir_ / name), before);
    fs::remove_all(dir_ / name);
  }
}

TEST_F(BuilderTest, AFileBesideAnUnfinishedBuildStays) {
  const DatasetBuild build = build_of({json_file(20)}, "out");
  build_and_die(build);
  DatasetBuild other = build;
  other.seed = 1;
  write_text(partial() / "train/notes.txt", "mine");
  EXPECT_THAT(user_error_of([&] { build_dataset(other); }), HasSubstr("notes.txt: not of a data set"));
  EXPECT_EQ(read_file(partial() / "train/notes.txt"), "mine");
  fs::remove(partial() / "train/notes.txt");
  EXPECT_EQ(build_dataset(other).resumed_documents, 0);
  EXPECT_FALSE(fs::exists(partial()));
}

// Killed at any call that changes the disk: the next build ends as one that nobody disturbed, and leaves nothing aside.
TEST_F(BuilderTest, KilledAtAnyCallTheNextOneFinishes) {
  DatasetBuild build = build_of({json_file(20)}, "out");
  build.seed = 1;
  build.validation_fraction = 0.3;
  ASSERT_TRUE(build_dataset(build).validation);
  const auto expected = content_of(build.out);
  fs::remove_all(build.out);
  int call = 0;
  for (bool complete = false; !complete; fs::remove_all(build.out)) {
    ++call;
    build.seed = 2;
    build.overwrite = false;
    build_dataset(build);
    build.seed = 1;
    build.overwrite = true;
    const pid_t child = fork();
    if (child == 0) {
      int calls = 0;
      file_call_hook = [&](const char*) { return ++calls == call ? (_exit(9), 0) : 0; };
      build_dataset(build);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    complete = status == 0;
    ASSERT_EQ(user_error_of([&] { build_dataset(build); }), "") << "killed at call " << call;
    ASSERT_EQ(content_of(build.out), expected) << "killed at call " << call;
    ASSERT_FALSE(fs::exists(partial()) || fs::exists(replaced())) << "killed at call " << call;
  }
  EXPECT_GT(call, 20);
}

// The working folder is locked until it has its name: a second build never meets it unlocked.
TEST_F(BuilderTest, ASecondBuildIsRefusedToTheEnd) {
  const DatasetBuild build = build_of({json_file(20)}, "out");
  int refused = 0;
  bool inside = false;
  file_call_hook = [&](const char* call) {
    if (std::exchange(inside, true)) return 0;  // a call of the second build
    const bool working = fs::exists(partial() / "lock") && std::string(call) != "lock";
    if (working || std::string(call) == "rename") {
      EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("in use by process")) << call;
      ++refused;
    }
    inside = false;
    return 0;
  };
  build_dataset(build);
  EXPECT_GT(refused, 5);
  file_call_hook = nullptr;
  EXPECT_TRUE(build_dataset(build).already_built);
}

// Whatever stands in the record of an unfinished build: it goes on or starts over, to the same bytes, and the record of
// a finished one is known or not.
TEST_F(BuilderTest, MutatedRecordsNeverDecideWhatIsBuilt) {
  DatasetBuild build = build_of({json_file(20)}, "out");
  build_dataset(build);
  const auto expected = content_of(build.out);
  const std::string done = read_file(build.out / "build.json");
  fs::remove_all(build.out);
  build_and_die(build);
  const std::string unfinished = read_file(partial() / "build.json");
  fs::copy(partial(), dir_ / "copy", fs::copy_options::recursive);
  int resumed = 0;
  for (std::uint64_t round = 0; round < 150; ++round) {
    const std::string text = mutated(unfinished, kJsonWords, round);
    fs::remove_all(partial());
    fs::remove_all(build.out);
    fs::copy(dir_ / "copy", partial(), fs::copy_options::recursive);
    write_text(partial() / "build.json", text);
    ASSERT_NO_THROW(resumed += build_dataset(build).resumed_documents > 0) << "round " << round;
    ASSERT_EQ(content_of(build.out), expected) << "round " << round;

    write_text(build.out / "build.json", mutated(done, kJsonWords, round));
    user_error_of([&] { build_dataset(build); });
    ASSERT_EQ(content_of(build.out), expected) << "round " << round;
  }
  EXPECT_LT(resumed, 20);  // those that the mutation left as they were
}

}  // namespace
}  // namespace xlstm
