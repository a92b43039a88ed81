// TensorBoard's records: lengths and checksums as its readers want them, and nothing written behind a failure.
#include "train/event_file.h"

#include <cerrno>
#include <cstring>

#include "tests/train/checkpoint_cases.h"

namespace xlstm {
namespace {

template <class T>
T number_at(const std::string& bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::uint32_t masked(const std::string& data) {
  const std::uint32_t crc = crc32c(data.data(), data.size());
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

// The messages of a file, after all its lengths and checksums were right.
std::vector<std::string> records_of(const std::string& bytes) {
  std::vector<std::string> records;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto length = static_cast<std::size_t>(number_at<std::uint64_t>(bytes, at));
    EXPECT_EQ(number_at<std::uint32_t>(bytes, at + 8), masked(bytes.substr(at, 8)));
    records.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(number_at<std::uint32_t>(bytes, at + 12 + length), masked(records.back()));
    at += 16 + length;
  }
  return records;
}

using EventFileTest = TemporaryFolder;

TEST_F(EventFileTest, ChecksumHasTheKnownAnswer) {
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(crc32c("", 0), 0u);
}

TEST_F(EventFileTest, RecordsAreFramed) {
  EventFile file(dir / "events");
  const Scalar scalars[] = {{"loss/train", 2.5}, {"train/lr", 1e-3}};
  file.add(7, scalars);
  const auto records = records_of(read_file(file.path()));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  EXPECT_NE(records[1].find("loss/train"), std::string::npos);
  // Field 2, step, a varint; field 2 of a value, 5: 32 bits.
  EXPECT_NE(records[1].find("\x10\x07"), std::string::npos);
  EXPECT_NE(records[1].find(std::string("\x15\x00\x00\x20\x40", 5)), std::string::npos);
  EXPECT_TRUE(file.path().filename().string().starts_with("events.out.tfevents."));
  EXPECT_NE(EventFile(dir / "events").path(), file.path());
}

TEST_F(EventFileTest, AFullDiskEndsTheFileAndNothingElse) {
  EventFile file(dir / "events");
  const Scalar scalars[] = {{"loss/train", 2.5}};
  file.add(1, scalars);
  const std::string before = read_file(file.path());
  {
    const HookScope full([](const char*) { return ENOSPC; });
    file.add(2, scalars);
  }
  file.add(3, scalars);
  EXPECT_EQ(read_file(file.path()), before);
  const HookScope full([](const char*) { return ENOSPC; });
  EventFile none(dir / "none");
  none.add(1, scalars);
}

}  // namespace
}  // namespace xlstm
