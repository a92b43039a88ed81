// A config file and what is laid over it: the later word counts, also where two keys exclude each other.
#include "tests/train/run_rig.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ConfigLayers : public testing::Test {
 protected:
  ConfigLayers() {
    write_text(dir_ / "one.yaml", "data: {train: web, packing: first_fit}\n");
    write_text(dir_ / "mixed.yaml", "data: {mixture: [{path: web, weight: 7}, {path: code}]}\n");
    write_text(dir_ / "both.yaml", "data: {train: web, mixture: [{path: code}]}\n");
  }
  std::string file(const char* name) const { return (dir_ / name).string(); }
  DataConfig data(const char* name, const std::vector<std::string>& assignments) const {
    return load_train_config(file(name), assignments).data;
  }

  TempDir dir_;
};

TEST_F(ConfigLayers, ALaterTrainingSetTakesThePlaceOfAMixtureAndTheOtherWayRound) {
  for (const std::string& later : {"@" + file("one.yaml"), std::string("data.train=web")}) {
    const DataConfig d = data("mixed.yaml", {later});
    EXPECT_EQ(d.train, "web") << later;
    EXPECT_TRUE(d.mixture.empty()) << later;
  }
  for (const std::vector<std::string>& later :
       {std::vector{"@" + file("mixed.yaml")}, {"data.mixture.0.path=web", "data.mixture.1.path=code"}}) {
    const DataConfig d = data("one.yaml", later);
    EXPECT_EQ(d.train, "");
    ASSERT_EQ(d.mixture.size(), 2u);
    EXPECT_EQ(d.mixture[1].path, "code");
    EXPECT_EQ(d.packing, Packing::first_fit);  // nothing else is taken out
  }
  EXPECT_EQ(data("one.yaml", {"@" + file("mixed.yaml"), "data.train=last"}).train, "last");
  EXPECT_EQ(data("mixed.yaml", {"data.train=web", "data.mixture.0.path=last"}).mixture.size(), 1u);
}

TEST_F(ConfigLayers, WhatNamesNothingTakesNothingOut) {
  EXPECT_EQ(data("mixed.yaml", {"data.train="}).mixture.size(), 2u);
  EXPECT_EQ(data("mixed.yaml", {"data.mixture.1.weight=2"}).mixture[1].weight, 2);
  EXPECT_EQ(data("mixed.yaml", {"data.validation=other"}).mixture.size(), 2u);
}

TEST_F(ConfigLayers, OneFileThatNamesBothIsRefused) {
  for (const std::vector<std::string>& later : {std::vector<std::string>{}, {"@" + file("both.yaml")}})
    EXPECT_THAT(user_error_of([&] { data("both.yaml", later); }),
                AllOf(HasSubstr("both.yaml:1: data.mixture: data.train names data, too")));
  EXPECT_EQ(data("both.yaml", {"data.train=last"}).train, "last");
}

}  // namespace
}  // namespace xlstm
