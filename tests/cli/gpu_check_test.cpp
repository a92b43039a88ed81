// scripts/gpu_check.sh with a GPU, a program and tests that only pretend: what it reports, and that nothing holds it
// up.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <regex>

#include "tests/cli/support.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class GpuCheck : public CliTest {
 protected:
  // A bundle whose program does what `program` says, and writes {"rows": []} where --save points.
  void make_bundle(const std::string& program) const {
    for (const char* folder : {"bin", "b/xlstm/lib"}) fs::create_directories(path(folder));
    script("b/xlstm/xlstm", program + R"(
while [ $# -gt 1 ]; do [ "$1" = --save ] && echo '{"rows": []}' > "$2"; [ "$1" = --run ] && mkdir -p "$2" && echo '{}' > "$2/metrics.jsonl"; shift; done
echo a table)");
    script("b/xlstm/device_test", "true");
    write("b/xlstm/commit", "0123456789abcdef\n");
    script(
        "bin/nvidia-smi",
        R"(case $1 in *=name) echo 'Fake GPU 9000';; *driver_version) echo 999.1;; *compute_cap) echo 9.0;; *) echo '143771 MiB';; esac)");
    script("bin/python3", "exit 1");
    ASSERT_EQ(std::system(("tar -C " + path("b").string() + " -cf " + path("bundle.tar").string() + " xlstm").c_str()),
              0);
  }

  int check(const std::string& options = "") const {
    const std::string command = "cd " + path("").string() + " && PATH=" + path("bin").string() +
                                ":/usr/bin:/bin " XLSTM_SOURCE_DIR "/scripts/gpu_check.sh " + options +
                                " results bundle.tar > said 2>&1";
    return WEXITSTATUS(std::system(command.c_str()));
  }

  Json report() const { return read_json(path("results/gpu_fake_gpu_9000.json")); }
  std::string table() const { return read_file(path("results/gpu_fake_gpu_9000.md")); }
  std::string verdict(const std::string& part) const {
    const Json all = report();
    for (const Json& p : all.at("parts"))
      if (p.at("part") == part) return p.at("verdict");
    return "not named";
  }

 private:
  void script(const std::string& name, const std::string& text) const {
    write(name, "#!/bin/bash\n" + text + "\n");
    fs::permissions(path(name), fs::perms::owner_all);
  }
};

TEST_F(GpuCheck, ReportsTheMachineEveryPartAndWhatWasLeftOut) {
  make_bundle("");
  EXPECT_EQ(check(), 4) << read_file(path("said"));
  const Json all = report();
  EXPECT_EQ(all.at("gpu"), "Fake GPU 9000");
  EXPECT_EQ(all.at("memory_mib"), 143771);
  EXPECT_EQ(all.at("driver"), "999.1");
  EXPECT_EQ(all.at("commit"), "0123456789abcdef");
  EXPECT_EQ(all.at("parts").size(), 15u);
  for (const char* part : {"doctor", "words", "operations", "cells", "wgmma", "runs", "device", "ops", "gemm",
                           "step_1.4b_exp", "step_1.4b_sig", "train", "step_graph"})
    EXPECT_EQ(verdict(part), "passed") << part;
  EXPECT_THAT(verdict("opponents"), HasSubstr("left out: "));
  EXPECT_THAT(verdict("memcheck"), HasSubstr("left out: "));
  for (const char* measured : {"device", "ops", "gemm", "step_1.4b_exp", "step_1.4b_sig"})
    EXPECT_TRUE(all.contains(measured)) << measured;
  EXPECT_THAT(table(),
              AllOf(HasSubstr("# Fake GPU 9000, 143771 MiB, driver 999.1, commit 0123456789ab\n"),
                    HasSubstr("| operations | passed |"), HasSubstr("| memcheck | left out"), HasSubstr("a table")));
}

TEST_F(GpuCheck, WhatFailsOrHangsHoldsNothingUp) {
  make_bundle(R"([ "$2" = gemm ] && sleep 50; [ "$2" = ops ] && exit 3)");
  EXPECT_EQ(check("--seconds 27"), 1) << read_file(path("said"));
  EXPECT_EQ(verdict("ops"), "failed (3)");
  EXPECT_EQ(verdict("gemm"), "stopped after 1 s");
  EXPECT_EQ(verdict("step_1.4b_exp"), "passed");
  EXPECT_FALSE(report().contains("gemm"));
}

TEST_F(GpuCheck, OpponentsThatDoNotRunAreNoFaultOfOurs) {
  make_bundle("");
  write("bin/python3", "#!/bin/bash\n[ $1 = -c ]\n");
  EXPECT_EQ(check(), 4) << read_file(path("said"));
  EXPECT_THAT(verdict("opponents"), HasSubstr("left out: the published kernels do not run here"));
}

TEST_F(GpuCheck, WhatHasNoTimeLeftIsNamed) {
  make_bundle("sleep 1.2");
  EXPECT_EQ(check("--seconds 3"), 1);
  EXPECT_EQ(verdict("step_graph"), "left out: no time left");
}

TEST_F(GpuCheck, WithoutAGpuItSaysSo) {
  make_bundle("");
  write("bin/nvidia-smi", "#!/bin/bash\nexit 9\n");
  EXPECT_EQ(check(), 2);
  EXPECT_EQ(read_file(path("said")), "gpu_check: nvidia-smi names no GPU here\n");
  EXPECT_FALSE(fs::exists(path("results")));
}

TEST_F(GpuCheck, BadOptionsAreRefused) {
  make_bundle("");
  EXPECT_EQ(check("--seconds soon"), 2);
  EXPECT_THAT(read_file(path("said")), HasSubstr("got 'soon'"));
}

// With two seconds for each part to end.
TEST_F(GpuCheck, TheLimitsAddUpToNineMinutes) {
  const std::string text = read_file(XLSTM_SOURCE_DIR "/scripts/gpu_check.sh");
  const std::size_t begin = text.find("limits=(");
  ASSERT_NE(begin, text.npos);
  const std::string limits = text.substr(begin, text.find(')', begin) - begin);
  const std::regex limit(R"(\]=(\d+))");
  int parts = 0, sum = 0;
  for (std::sregex_iterator it(limits.begin(), limits.end(), limit), end; it != end; ++it, ++parts)
    sum += std::stoi((*it)[1]);
  EXPECT_EQ(parts, 15);
  EXPECT_LE(sum + 2 * parts, 540);
}

}  // namespace
}  // namespace xlstm
