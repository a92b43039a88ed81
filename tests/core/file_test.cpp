// Files that are whole or absent, locks between processes, digests with known answers.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/hash.h"
#include "core/json.h"
#include "tests/core/support.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Files : public FolderTest {
 protected:
  ~Files() override { file_call_hook = nullptr; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path(""))) found.push_back(entry.path().filename());
    return found;
  }
};

TEST_F(Files, WriteAndReadBack) {
  const std::string content("bytes\0and lines\n", 16);
  write_file_atomically(path("a"), content);
  EXPECT_EQ(read_file(path("a")), content);
  write_file_atomically(path("a"), "");
  EXPECT_EQ(read_file(path("a")), "");
  EXPECT_THAT(names(), testing::ElementsAre("a"));
}

// Whatever call fails: the old content stands, the message names the file and the reason, nothing is left behind.
TEST_F(Files, AFailedWriteLeavesTheOldFile) {
  write_file_atomically(path("a"), "old");
  for (const std::string failing : {"write", "fsync", "rename"}) {
    file_call_hook = [&](const char* call) { return failing == call ? ENOSPC : 0; };
    EXPECT_THAT(error_of([&] { write_file_atomically(path("a"), "new"); }),
                AllOf(HasSubstr(path("a").string()), HasSubstr("No space left"), HasSubstr("free some space")));
    file_call_hook = nullptr;
    EXPECT_EQ(read_file(path("a")), "old") << failing;
    EXPECT_THAT(names(), testing::ElementsAre("a")) << failing;
  }
}

// Killed at any call: the file is the old one or the new one.
TEST_F(Files, AKilledWriteLeavesOldOrNew) {
  int calls = 0;
  file_call_hook = [&](const char*) { return ++calls, 0; };
  write_file_atomically(path("a"), "old");
  file_call_hook = nullptr;
  ASSERT_GE(calls, 4);  // write, fsync, rename, fsync of the folder
  bool seen_old = false, seen_new = false;
  for (int last = 1; last <= calls; ++last) {
    write_file_atomically(path("a"), "old");
    const pid_t child = fork();
    if (child == 0) {
      int n = 0;
      file_call_hook = [&](const char*) { return ++n == last ? (_exit(0), 0) : 0; };
      write_file_atomically(path("a"), "new");
      _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    const std::string now = read_file(path("a"));
    EXPECT_TRUE(now == "old" || now == "new") << now;
    (now == "old" ? seen_old : seen_new) = true;
  }
  EXPECT_TRUE(seen_old && seen_new);
}

TEST_F(Files, MissingAndCutOff) {
  EXPECT_THAT(error_of([&] { read_file(path("none")); }), AllOf(HasSubstr("none"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_file(path("")); }), HasSubstr("Is a directory"));
  EXPECT_THAT(error_of([&] { InputFile file(path("")); }), HasSubstr("Is a directory"));
  write_file_atomically(path("a"), "12345");
  const InputFile file(path("a"));
  char two[2];
  file.read(3, two, 2);
  EXPECT_EQ(std::string(two, 2), "45");
  EXPECT_THAT(error_of([&] { file.read(4, two, 2); }), AllOf(HasSubstr("ends at byte 5"), HasSubstr("1 more")));
}

TEST_F(Files, AnOutputFileIsCheckedBeforeTheWork) {
  make_directory(path("folder"));
  write_file_atomically(path("file"), "x");
  for (const char* fine : {"new", "no/such/folder/new", "file"})
    EXPECT_EQ(error_of([&] { check_output_file(path(fine), "--out"); }), "") << fine;
  EXPECT_EQ(error_of([] { check_output_file("relative", "--out"); }), "");
  EXPECT_THAT(error_of([] { check_output_file("", "--out"); }), HasSubstr("--out: is empty"));
  EXPECT_THAT(error_of([&] { check_output_file(path("folder"), "--out"); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of([&] { check_output_file(path("new/"), "--out"); }), HasSubstr("slash"));
  EXPECT_THAT(error_of([&] { check_output_file(path("file/new"), "--out"); }), HasSubstr("Not a directory"));
  EXPECT_THAT(error_of([] { check_output_file("/dev/null", "--save"); }), HasSubstr("no regular file"));
  EXPECT_THAT(names(), testing::UnorderedElementsAre("file", "folder"));
}

TEST_F(Files, MovedAsideNothingIsLost) {
  for (const char* content : {"first", "second"}) {
    write_file_atomically(path("a"), content);
    move_aside(path("a"), "damaged");
  }
  EXPECT_THAT(names(), testing::UnorderedElementsAre("a.damaged-1", "a.damaged-2"));
  EXPECT_EQ(read_file(path("a.damaged-2")), "second");
}

TEST_F(Files, Exchange) {
  make_directory(path("a/deep"));
  write_file_atomically(path("b"), "file");
  exchange_paths(path("a"), path("b"));
  EXPECT_EQ(read_file(path("a")), "file");
  EXPECT_TRUE(fs::is_directory(path("b/deep")));
  remove_tree(path("b"));
  EXPECT_THAT(names(), testing::ElementsAre("a"));
}

// Where the file system does not exchange: the same by three renames, and as it was when one of them fails.
TEST_F(Files, ExchangeByRenames) {
  for (const int failing : {0, 1, 2, 3}) {
    SCOPED_TRACE(failing);
    write_file_atomically(path("a"), "new");
    write_file_atomically(path("b"), "old");
    int renames = 0;
    file_call_hook = [&](const char* call) {
      return std::string(call) == "exchange" ? EINVAL : std::string(call) == "rename" && ++renames == failing ? EIO : 0;
    };
    EXPECT_EQ(error_of([&] { exchange_paths(path("a"), path("b")); }).empty(), failing == 0);
    file_call_hook = nullptr;
    EXPECT_EQ(read_file(path("a")), failing == 0 ? "old" : "new");
    EXPECT_EQ(read_file(path("b")), failing == 0 ? "new" : "old");
    EXPECT_THAT(names(), testing::UnorderedElementsAre("a", "b"));
  }
}

TEST_F(Files, SealedJsonIsWholeOrNothing) {
  const Json object{{"name", "a\xff"}, {"list", {1, 2.5, nullptr}}};
  const std::string text = sealed(object);
  EXPECT_EQ(unsealed(text)["list"], object["list"]);
  EXPECT_FALSE(unsealed(text).contains("checksum"));
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_TRUE(unsealed(damaged).is_null()) << i;
    EXPECT_TRUE(unsealed(text.substr(0, i)).is_null()) << i;
  }
}

TEST_F(Files, JsonErrorsNameTheByte) {
  write_file_atomically(path("a"), "{\"x\": 1, oops}");
  EXPECT_THAT(error_of([&] { read_json(path("a")); }), AllOf(HasSubstr(path("a").string()), HasSubstr("byte 10")));
  write_file_atomically(path("b"), "{\"x\": 1e999}");
  EXPECT_THAT(error_of([&] { read_json(path("b")); }), HasSubstr("a number beyond any type"));
  EXPECT_THAT(error_of([&] {
                json_field<int>({{"x", "text"}}, "x", "f.json");
              }),
              AllOf(HasSubstr("f.json"), HasSubstr("'x'")));
  EXPECT_THAT(error_of([&] { json_field<int>({{"x", 1}}, "y", "f.json"); }), HasSubstr("'y' is missing"));
}

TEST_F(Files, ALockIsOfOneProcess) {
  int to_child[2], to_parent[2];
  ASSERT_EQ(pipe(to_child), 0);
  ASSERT_EQ(pipe(to_parent), 0);
  const pid_t child = fork();
  if (child == 0) {
    const FileLock lock(path("lock"), "the folder");
    char byte = 'x';
    if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1) _exit(1);
    _exit(0);  // without a destructor: as if killed
  }
  char byte = 'x';
  ASSERT_EQ(read(to_parent[0], &byte, 1), 1);
  EXPECT_THAT(error_of([&] { FileLock second(path("lock"), "the folder"); }),
              AllOf(HasSubstr("the folder is in use by process " + std::to_string(child)), HasSubstr("wait")));
  ASSERT_EQ(write(to_child[1], &byte, 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(error_of([&] { FileLock after(path("lock"), "the folder"); }), "");
}

TEST_F(Files, ALockThatCannotBeTakenSaysWhy) {
  for (const int why : {ENOLCK, EOPNOTSUPP}) {
    file_call_hook = [&](const char* call) { return std::string(call) == "lock" ? why : 0; };
    EXPECT_THAT(error_of([&] { FileLock lock(path("lock"), "the folder"); }),
                AllOf(HasSubstr("cannot lock " + path("lock").string()), HasSubstr(std::strerror(why))));
  }
}

// A lock that its owner moves away while another waits at the door is not the lock of that place any more.
TEST_F(Files, ALockThatWasMovedAwayIsInUse) {
  file_call_hook = [&](const char* call) {
    return std::string(call) == "lock" ? (fs::rename(path("lock"), path("moved")), 0) : 0;
  };
  EXPECT_THAT(error_of([&] { FileLock lock(path("lock"), "the folder"); }), HasSubstr("in use"));
}

TEST_F(Files, OurLocksAreKnown) {
  { const FileLock lock(path("lock"), "the folder"); }
  EXPECT_TRUE(FileLock::made(path("lock")));
  write_file_atomically(path("lock"), "combination: 123");
  EXPECT_FALSE(FileLock::made(path("lock")));
  EXPECT_FALSE(FileLock::made(path("none")));
  EXPECT_FALSE(FileLock::made(path("")));
}

TEST(Errors, AreOneLine) {
  EXPECT_STREQ(user_error("{}: expected {}", "a\nb\t", "\x1b[1m\x7f Größe").what(),
               "a\\nb\\t: expected \\x1b[1m\\x7f Größe");
}

// FIPS 180-4 and the xxHash project's own test of 128 bits without seed.
TEST(Hash, KnownAnswers) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(xxh3_hex("", 0), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, PiecesAndTheWholeAreTheSame) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>(i * 7 % 251);
  for (const std::size_t piece : {1u, 63u, 64u, 1000u}) {
    Xxh3 xxh3;
    Sha256 sha256;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      const std::size_t n = std::min(piece, text.size() - at);
      xxh3.update(text.data() + at, n);
      sha256.update(text.data() + at, n);
    }
    EXPECT_EQ(xxh3.hex(), xxh3_hex(text.data(), text.size()));
    EXPECT_EQ(sha256.hex(), sha256_hex(text));
  }
}

}  // namespace
}  // namespace xlstm
