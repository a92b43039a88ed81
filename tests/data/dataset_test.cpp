// Building data sets, reading them, and finding what is wrong with them.
#include "data/dataset.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <set>

#include "core/random.h"
#include "data/dataset_writer.h"
#include "tests/data/dataset_case.h"
#include "tests/support/mutate.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

TEST_F(DatasetTest, HoldsEveryDocumentOnce) {
  const auto documents = sample_documents(300);
  DatasetBuild build = build_of({json_file(300)}, "out");
  build.shard_tokens = 1000;
  const DatasetBuildResult result = build_dataset(build);
  EXPECT_GT(result.train.shards.size(), 3u);
  ASSERT_TRUE(result.validation);
  EXPECT_EQ(result.train.documents() + result.validation->documents(), 300);
  EXPECT_NEAR(static_cast<double>(result.validation->documents()), 30, 25);  // 0.1 of 300: within 5 standard deviations
  EXPECT_EQ(result.train.text_bytes, result.train.token_bytes);

  const auto train = documents_of(build.out), validation = documents_of(build.out / "validation");
  std::multiset<std::string> all(train.begin(), train.end());
  all.insert(validation.begin(), validation.end());
  EXPECT_EQ(all, std::multiset<std::string>(documents.begin(), documents.end()));
  for (const std::string& d : validation) EXPECT_EQ(std::count(train.begin(), train.end(), d), 0);
  verify_dataset(build.out / "train");
  verify_dataset(build.out / "validation");
  EXPECT_FALSE(fs::exists(build.out.string() + ".partial"));
  EXPECT_EQ(Dataset::open(build.out, "validation").total_tokens(), result.validation->tokens());
  EXPECT_THAT(user_error_of([&] { Dataset::open(dir_.path()); }), HasSubstr("no data set there"));
}

TEST_F(DatasetTest, ThreadsAndFormatsChangeNothing) {
  std::string json, separated;
  std::vector<std::string> in_order;
  for (int copy = 0; copy < 16; ++copy)  // several megabytes: several batches for the threads to finish out of order
    for (const std::string& d : sample_documents(300)) {
      json += Json{{"text", d + "\n"}}.dump() + "\n";
      separated += d + "\n-----\n";
      in_order.push_back(d + "\n");
    }
  write_text(dir_ / "a.jsonl", json);
  write_text(dir_ / "b.jsonl.gz", gzip(json));
  write_text(dir_ / "c.jsonl.zst", zstd(json));
  write_text(dir_ / "d.txt", separated);
  std::map<std::string, std::string> first;
  int number = 0;
  for (const auto& [name, threads] :
       {std::pair{"a.jsonl", 1}, {"a.jsonl", 2}, {"a.jsonl", 5}, {"b.jsonl.gz", 2}, {"c.jsonl.zst", 2}, {"d.txt", 2}}) {
    DatasetBuild build = build_of({(dir_ / name).string()}, "out" + std::to_string(number++));
    build.threads = threads;
    build.text.document_separator = "-----";
    build.shard_tokens = 90000;
    build_dataset(build);
    if (first.empty()) {
      first = content_of(build.out);
      auto at = in_order.begin();  // the training documents are those of the input, in its order
      for (const std::string& document : documents_of(build.out)) {
        at = std::find(at, in_order.end(), document);
        ASSERT_NE(at++, in_order.end());
      }
    }
    EXPECT_EQ(content_of(build.out), first) << name << " " << threads;
  }
}

TEST_F(DatasetTest, StdinReadsAsAFile) {
  const std::string json = json_file(50);
  build_dataset(build_of({json}, "file"));
  std::FILE* in = std::freopen(json.c_str(), "r", stdin);
  ASSERT_NE(in, nullptr);
  DatasetBuild build = build_of({"-"}, "stdin");
  build.text.as = TextFormat::jsonl;
  build_dataset(build);
  EXPECT_EQ(content_of(dir_ / "stdin"), content_of(dir_ / "file"));
  EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("--overwrite"));  // stdin is never known again
}

TEST_F(DatasetTest, DoneIsDoneAndOthersAreNotOverwritten) {
  DatasetBuild build = build_of({json_file(50)}, "out");
  EXPECT_FALSE(build_dataset(build).already_built);
  const auto before = content_of(build.out);
  const DatasetBuildResult again = build_dataset(build);
  EXPECT_TRUE(again.already_built);
  EXPECT_EQ(again.train.fingerprint(), Dataset::open(build.out).fingerprint());
  build.seed = 1;
  EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("--overwrite"));
  EXPECT_EQ(content_of(build.out), before);
  build.overwrite = true;
  EXPECT_FALSE(build_dataset(build).already_built);
  EXPECT_NE(content_of(build.out), before);
  EXPECT_FALSE(fs::exists(build.out.string() + ".replaced"));
  const std::string shard = read_file(build.out / "train" / "shard_00000.tokens");
  std::ofstream(build.out / "train" / "shard_00000.tokens") << "damaged";
  EXPECT_FALSE(build_dataset(build).already_built);
  EXPECT_EQ(read_file(build.out / "train" / "shard_00000.tokens"), shard);

  write_text(dir_ / "mine" / "precious.txt", "x");
  build.out = dir_ / "mine";
  EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("no data set"));
  EXPECT_EQ(read_file(dir_ / "mine" / "precious.txt"), "x");
}

// Files may not grow past a limit: what a full disk does, at every stage of the build.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(DatasetTest, AnInterruptedBuildGoesOnToTheSameBytes) {
  std::string json;
  for (int copy = 0; copy < 20; ++copy)
    for (const std::string& d : sample_documents(300)) json += Json{{"text", d}}.dump() + "\n";
  write_text(dir_ / "big.jsonl", json);
  DatasetBuild whole = build_of({(dir_ / "big.jsonl").string()}, "whole");
  whole.shard_tokens = 230000;
  build_dataset(whole);

  DatasetBuild build = whole;
  build.out = dir_ / "out";
  build.commit_bytes = 1;  // after every batch
  i64 resumed = 0;
  for (const rlim_t limit : {200000, 350000}) {
    const FileSizeLimit full(limit);
    EXPECT_THAT(user_error_of([&] { resumed = build_dataset(build).resumed_documents; }), HasSubstr("cannot write"));
    EXPECT_FALSE(fs::exists(build.out));
    EXPECT_TRUE(fs::exists(build.out.string() + ".partial/build.json"));
  }
  // Bytes after the last commit, as a crash may leave them, are cut off.
  for (const auto& entry : fs::recursive_directory_iterator(build.out.string() + ".partial"))
    if (entry.path().extension() == ".tokens") std::ofstream(entry.path(), std::ios::app) << "garbage";
  resumed = build_dataset(build).resumed_documents;
  EXPECT_GT(resumed, 0);
  const auto expected = content_of(whole.out);
  auto found = content_of(build.out);
  EXPECT_EQ(found, expected);
}

TEST_F(DatasetTest, AnUnfinishedBuildOfSomethingElseStartsOver) {
  DatasetBuild build = build_of({json_file(100)}, "out");
  {
    const FileSizeLimit full(1000);
    EXPECT_NE(user_error_of([&] { build_dataset(build); }), "");
  }
  write_text(build.out.string() + ".partial/build.json", "{\"description\": 3}");
  write_text(build.out.string() + ".partial/train/shard_00007.tokens", "left over");
  EXPECT_EQ(build_dataset(build).resumed_documents, 0);
  EXPECT_FALSE(fs::exists(build.out / "train" / "shard_00007.tokens"));
}

TEST_F(DatasetTest, NothingToBuildIsSaid) {
  write_text(dir_ / "empty.txt", "");
  EXPECT_THAT(user_error_of([&] { build_dataset(build_of({(dir_ / "empty.txt").string()}, "out")); }),
              HasSubstr("holds no text"));
  write_text(dir_ / "bad.jsonl", "{\"txt\": 1}\n");
  EXPECT_THAT(user_error_of([&] { build_dataset(build_of({(dir_ / "bad.jsonl").string()}, "out")); }),
              HasSubstr("no field 'text'"));
  DatasetBuild build = build_of({json_file(2)}, "out");
  for (const double wrong : {1.0, -0.1, std::nan(""), HUGE_VAL}) {
    build.validation_fraction = wrong;
    EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("--validation-fraction"));
  }
  build.validation_fraction = 0.999999;
  EXPECT_THAT(user_error_of([&] { build_dataset(build); }), HasSubstr("fell to validation"));
  build.validation_fraction = 0;
  EXPECT_FALSE(build_dataset(build).validation);
  EXPECT_FALSE(fs::exists(build.out / "validation"));
}

TEST_F(DatasetTest, InvalidTextKeepsItsOriginalSize) {
  write_text(dir_ / "a.txt", "good \xFF bad\n");
  DatasetBuild build = build_of({(dir_ / "a.txt").string()}, "out");
  build.validation_fraction = 0;
  const Manifest m = build_dataset(build).train;
  EXPECT_EQ(m.text_bytes, 11);
  EXPECT_EQ(m.token_bytes, 13);  // U+FFFD has three bytes
  EXPECT_DOUBLE_EQ(Dataset::open(build.out).text_bytes_per_token_byte(), 11.0 / 13);
}

TEST_F(DatasetTest, ReadsAcrossShards) {
  DatasetBuild build = build_of({json_file(100)}, "out");
  build.shard_tokens = 300;
  build_dataset(build);
  const Dataset data = Dataset::open(build.out);
  const i64 n = data.total_tokens();
  ASSERT_GT(data.manifest().shards.size(), 5u);
  std::vector<std::int32_t> all(static_cast<std::size_t>(n)), part(static_cast<std::size_t>(n));
  data.read(0, n, all.data());
  for (i64 begin = 0; begin < n; begin += 97)
    for (const i64 count : {i64{0}, i64{1}, i64{299}, n - begin}) {
      if (begin + count > n) continue;
      data.read(begin, count, part.data());
      ASSERT_TRUE(std::equal(part.begin(), part.begin() + count, all.begin() + begin));
    }
  EXPECT_THROW(data.read(n - 1, 2, part.data()), Error);
}

// A data set of a few hundred bytes, small enough to damage every byte.
class DamageTest : public DatasetTest {
 protected:
  void SetUp() override {
    DatasetWriter writer(folder(), sample_tokenizer().identity(), 1000, /*row_tokens=*/8);
    for (const std::string text : {"one memory", "two gates", "three"}) {
      const auto size = static_cast<i64>(text.size());
      writer.add(sample_tokenizer().encode(text), size, size);
    }
    writer.finish();
    verify_dataset(folder());
  }
  fs::path folder() const { return dir_ / "small"; }

  void write_over(const fs::path& path, const std::string& bytes) {  // in place: the name may be mapped elsewhere
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
};

TEST_F(DamageTest, VerifyFindsEveryFlippedByte) {
  for (const std::string name : {"shard_00000.tokens", "shard_00000.docs", "shard_00000.rows", "manifest.json"}) {
    const std::string whole = read_file(folder() / name);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ 1);
      if (name == "manifest.json" && std::isspace(static_cast<unsigned char>(whole[i])) &&
          std::isspace(static_cast<unsigned char>(damaged[i])))
        continue;  // layout, not content
      write_over(folder() / name, damaged);
      EXPECT_THAT(user_error_of([&] { verify_dataset(folder()); }), HasSubstr(name)) << name << " " << i;
    }
    write_over(folder() / name, whole);
  }
  verify_dataset(folder());
}

TEST_F(DamageTest, OpenAndVerifyFindWhatIsCutOffOrTooLong) {
  for (const std::string name : {"shard_00000.tokens", "shard_00000.docs", "shard_00000.rows"}) {
    const std::string whole = read_file(folder() / name);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      write_over(folder() / name, whole.substr(0, size));
      const std::string expected =
          fmt::format("{}: cut off: expected {} bytes, found {}; run 'xlstm data verify", name, whole.size(), size);
      EXPECT_THAT(user_error_of([&] { Dataset::open(folder()); }), HasSubstr(expected));
      EXPECT_THAT(user_error_of([&] { verify_dataset(folder()); }), HasSubstr(expected));
    }
    write_over(folder() / name, whole + "x");
    EXPECT_THAT(user_error_of([&] { Dataset::open(folder()); }), HasSubstr("too long"));
    fs::remove(folder() / name);
    EXPECT_THAT(user_error_of([&] { Dataset::open(folder()); }), HasSubstr(name));
    write_over(folder() / name, whole);
  }
}

TEST_F(DamageTest, AnotherTokenizerIsFound) {
  write_over(folder() / "tokenizer.model", "something else");
  EXPECT_THAT(user_error_of([&] { verify_dataset(folder()); }), HasSubstr("not the tokenizer of this data set"));
  EXPECT_THAT(user_error_of([&] { Dataset::open(folder()); }), HasSubstr("not the tokenizer of this data set"));
}

TEST_F(DamageTest, ReadNamesShardAndOffsetOfABadId) {
  std::string tokens = read_file(folder() / "shard_00000.tokens");
  tokens[6] = tokens[7] = '\xFF';
  write_over(folder() / "shard_00000.tokens", tokens);
  const Dataset data = Dataset::open(folder());
  std::vector<std::int32_t> ids(5);
  const std::string message = user_error_of([&] { data.read(1, 5, ids.data()); });
  EXPECT_THAT(message, HasSubstr("shard_00000.tokens: token 3: id 65535 is outside the vocabulary, expected 0 to 399"));
  EXPECT_THAT(user_error_of([&] { verify_dataset(folder()); }), HasSubstr("token 3"));
  data.read(0, 3, ids.data());  // what is whole can be read
}

// Whatever stands in the files: a UserError or success, nothing else (and nothing for the sanitizers).
TEST_F(DamageTest, MutatedFilesNeverCrash) {
  const std::vector<std::string> names = {"manifest.json", "shard_00000.tokens", "shard_00000.docs",
                                          "shard_00000.rows"};
  std::map<std::string, std::string> whole;
  for (const std::string& name : names) whole[name] = read_file(folder() / name);
  int refused = 0;
  for (std::uint64_t round = 0; round < 600; ++round) {
    const std::string& name = names[round % names.size()];
    const std::string text = mutated(whole[name], kJsonWords, round);
    if (text == whole[name]) continue;
    write_over(folder() / name, text);
    refused += user_error_of([&] { verify_dataset(folder()); }) != "";
    user_error_of([&] {
      const Dataset data = Dataset::open(folder());
      std::vector<std::int32_t> ids(static_cast<std::size_t>(data.total_tokens()));
      data.read(0, data.total_tokens(), ids.data());
      for (i64 r = 0; r < data.manifest().rows(); ++r) data.row(r);
    });
    write_over(folder() / name, whole[name]);
  }
  EXPECT_GT(refused, 560);  // the few that pass left the content as it was
}

}  // namespace
}  // namespace xlstm
