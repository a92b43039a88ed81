#include "train/checkpoint.h"

#include <gmock/gmock.h>

#include "core/hash.h"
#include "tests/support/mutate.h"
#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

using ::testing::HasSubstr;

struct CheckpointTest : TemporaryFolder {
  SmallRun run;
};

TEST_F(CheckpointTest, RoundTripIsExact) {
  const CheckpointContent content = run.at_step(1000);
  const i64 bytes = write_checkpoint(dir, content);
  const CheckpointReader reader(dir);
  reader.verify();
  EXPECT_EQ(reader.step(), 1000);
  EXPECT_EQ(reader.parameters(), 5 * 3 + 3 + 2);
  EXPECT_EQ(reader.bytes(), bytes);
  EXPECT_EQ(reader.state(), content.state);
  EXPECT_EQ(reader.weights_sha256(), weights_sha256(content.params));
  SmallRun loaded;
  reader.read_params(loaded.params.list);
  reader.read_optimizer(loaded.optimizer.list);
  EXPECT_EQ(loaded.bits(), run.bits());
}

TEST_F(CheckpointTest, WeightsHashIsOfTheSortedValuesAsF32) {
  Tensors t;
  const Tensor b = t.add("b", DType::f32, 1, 2), a = t.add("a", DType::f32, 2, 1);
  b.row<float>()[0] = 3, b.row<float>()[1] = -4, a.row<float>()[0] = 1, a.row<float>()[1] = 2;
  const float sorted[] = {1, 2, 3, -4};
  const std::string expected = sha256_hex({reinterpret_cast<const char*>(sorted), sizeof sorted});
  EXPECT_EQ(weights_sha256(t.list), expected);

  Tensors other;  // the same values, in other types and another order
  const Tensor wide = other.add("a", DType::f64, 2, 1), whole = other.add("b", DType::i32, 1, 2);
  wide.row<double>()[0] = 1, wide.row<double>()[1] = 2;
  whole.row<std::int32_t>()[0] = 3, whole.row<std::int32_t>()[1] = -4;
  EXPECT_EQ(weights_sha256(other.list), expected);

  Tensors narrow;
  narrow.add("x", DType::bf16, 1, 4);
  const std::uint16_t bits[] = {0x3F80, 0x4000, 0x4040, 0xC080};  // 1, 2, 3, -4
  std::memcpy(narrow.list[0].value.data, bits, sizeof bits);
  EXPECT_EQ(weights_sha256(narrow.list), expected);
}

TEST_F(CheckpointTest, EveryFlippedByteIsDamage) {
  write_checkpoint(dir, run.at_step(7));
  SmallRun target;
  const auto load = [&] {
    const CheckpointReader reader(dir);
    reader.read_params(target.params.list);
    reader.read_optimizer(target.optimizer.list);
  };
  for (const char* name : {"manifest.json", "params.safetensors", "optimizer-00000.safetensors", "state.json"}) {
    const std::string whole = read_file(dir / name);
    const auto put = [&](std::size_t at, char byte) {
      std::FILE* file = std::fopen((dir / name).c_str(), "r+b");
      std::fseek(file, static_cast<long>(at), SEEK_SET);
      std::fputc(byte, file);
      std::fclose(file);
    };
    for (std::size_t at = 0; at < whole.size(); ++at) {
      put(at, static_cast<char>(whole[at] ^ (1 << at % 8)));
      EXPECT_THROW(CheckpointReader(dir).verify(), DamagedCheckpoint) << name << " byte " << at;
      EXPECT_THROW(load(), DamagedCheckpoint) << name << " byte " << at;
      put(at, whole[at]);
    }
  }
  EXPECT_NO_THROW(CheckpointReader(dir).verify());
}

TEST_F(CheckpointTest, DamageIsToldWithFileAndTensor) {
  write_checkpoint(dir, run.at_step(7));
  const fs::path file = dir / "params.safetensors";
  std::string bytes = read_file(file);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  OutputFile(file).write(bytes);
  const CheckpointReader reader(dir);
  for (const bool load : {false, true}) try {
      load ? reader.read_params(run.params.list) : reader.verify();
      FAIL();
    } catch (const DamagedCheckpoint& e) {
      EXPECT_THAT(e.what(), HasSubstr(file.string()));
      EXPECT_THAT(e.what(), HasSubstr("tensor 'blocks.0.bias': expected xxh3 "));
    }
}

TEST_F(CheckpointTest, MissingFilesAreDamage) {
  for (const char* name : {"manifest.json", "params.safetensors", "optimizer-00000.safetensors", "state.json"}) {
    write_checkpoint(dir, run.at_step(7));
    fs::remove(dir / name);
    EXPECT_THROW(CheckpointReader{dir}, DamagedCheckpoint) << name;
  }
}

TEST_F(CheckpointTest, AnotherModelIsRefusedBeforeAnythingIsWritten) {
  write_checkpoint(dir, run.at_step(7));
  const CheckpointReader reader(dir);
  const auto refuses = [&](Tensors& target, const std::string& expected) {
    target.fill(99);
    const std::string before = target.bits();
    try {
      reader.read_params(target.list);
      FAIL() << expected;
    } catch (const DamagedCheckpoint&) {
      FAIL() << "a checkpoint of another model is not a damaged one";
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), HasSubstr(expected));
    }
    EXPECT_EQ(target.bits(), before);
  };
  SmallRun wider(4);
  refuses(wider.params, "tensor 'embedding.weight': expected f32 [5, 4], found f32 [5, 3]");
  SmallRun deeper;
  deeper.params.add("blocks.1.bias", DType::f32, 2, 1);
  refuses(deeper.params, "expected a tensor 'blocks.1.bias', found none");
  SmallRun shallower;
  shallower.params.list.pop_back();
  refuses(shallower.params, "found a tensor 'blocks.0.bias', expected none");
}

TEST_F(CheckpointTest, AnotherFormatVersionIsNotDamage) {
  write_checkpoint(dir, run.at_step(7));
  Json manifest = read_json(dir / "manifest.json");
  manifest["version"] = 2;
  manifest.erase("checksum");
  const std::string text = manifest.dump();
  manifest["checksum"] = xxh3_hex(text.data(), text.size());
  OutputFile(dir / "manifest.json").write(manifest.dump(1) + "\n");
  try {
    CheckpointReader{dir};
    FAIL();
  } catch (const DamagedCheckpoint& e) {
    FAIL() << e.what();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr("format version 2"));
  }
}

// Whatever stands in the files: a UserError, or the checkpoint as it was written.
TEST_F(CheckpointTest, MutatedFilesNeverCrash) {
  write_checkpoint(dir, run.at_step(7));
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(dir)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const std::string whole = read_file(file);
    for (std::uint64_t round = 0; round < 500; ++round) {
      const std::string bytes = mutated(whole, kJsonWords, round);
      write_file_atomically(file, bytes);
      bool refused = false;
      try {
        CheckpointReader(dir).verify();
      } catch (const UserError&) {
        refused = true;
      }
      EXPECT_EQ(refused, bytes != whole) << file << ", round " << round;
    }
    write_file_atomically(file, whole);
  }
}

}  // namespace
}  // namespace xlstm
