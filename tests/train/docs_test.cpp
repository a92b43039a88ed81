// docs/config.md names every key, with its default and whether a restarted run may change it.
#include <gtest/gtest.h>

#include <sstream>

#include "core/file.h"
#include "train/run_directory.h"

namespace xlstm {
namespace {

// "a.b.c" and "1" as YAML
std::string yaml_of(std::string key, const std::string& value) {
  std::string ends;
  for (std::size_t dot; (dot = key.find('.')) != key.npos; ends += '}') key.replace(dot, 1, ": {");
  return key + ": " + value + ends;
}

std::string restart_of(const std::string& key) {
  return conflicting_key(yaml_of(key, "1"), yaml_of(key, "2")).empty() ? "free" : "fixed";
}

// What is left of a table's cell without spaces, and without the quotes of code and of text.
std::string plain(std::string cell) {
  std::erase_if(cell, [](char c) { return c == ' ' || c == '`' || c == '"' || c == '*'; });
  return cell;
}

TEST(Docs, ConfigTablesAreTheCode) {
  std::map<std::string, std::string> expected, found;  // key -> "default, restart"
  for (const auto& [key, value] : ConfigTree::from_text(write_config(TrainConfig()), "defaults").values)
    expected[key] = value.text + ", " + restart_of(key);

  std::istringstream lines(read_file(XLSTM_SOURCE_DIR "/docs/config.md"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    std::istringstream cells(line.substr(1));
    std::string key, value, restart;
    std::getline(std::getline(std::getline(cells, key, '|'), value, '|'), restart, '|');
    EXPECT_TRUE(found.emplace(plain(key), plain(value) + ", " + plain(restart)).second) << line;
  }
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace xlstm
