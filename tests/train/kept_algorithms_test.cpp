// The file of a run that says which algorithms compute its products.
#include "train/kept_algorithms.h"

#include <gmock/gmock.h>

#include "tests/core/support.h"
#include "tests/support/fake_gpu.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::internal::CaptureStderr;
using testing::internal::GetCapturedStderr;

using KeptAlgorithmsTest = FolderTest;

struct ChoosingGpu : test::FakeGpu {
  std::string time_products(const std::string& text) override {
    kept = text;
    if (text == "damaged") throw user_error("expected something else");
    return text == "other" ? "GPU with 1.2" : "";
  }
  std::string new_product_choices() override { return std::exchange(choices, ""); }
  std::string kept = "-", choices;
};

TEST_F(KeptAlgorithmsTest, AreWrittenWhenMadeAndGivenBack) {
  const fs::path file = path("gemm_algorithms.json");
  ChoosingGpu gpu;
  KeptAlgorithms kept(gpu, file);
  EXPECT_EQ(gpu.kept, "");
  kept.keep();
  EXPECT_FALSE(fs::exists(file));
  gpu.choices = "first";
  kept.keep();
  EXPECT_EQ(read_file(file), "first");
  ChoosingGpu later;
  KeptAlgorithms(later, file).keep();
  EXPECT_EQ(later.kept, "first");
  EXPECT_EQ(read_file(file), "first");
}

TEST_F(KeptAlgorithmsTest, OfAnotherDeviceAreToldOf) {
  const fs::path file = path("gemm_algorithms.json");
  write_file_atomically(file, "other");
  ChoosingGpu gpu;
  CaptureStderr();
  const KeptAlgorithms kept(gpu, file);
  EXPECT_THAT(GetCapturedStderr(), AllOf(HasSubstr(file.string()), HasSubstr("GPU with 1.2")));
}

TEST_F(KeptAlgorithmsTest, ADamagedFileIsNamed) {
  const fs::path file = path("gemm_algorithms.json");
  write_file_atomically(file, "damaged");
  ChoosingGpu gpu;
  EXPECT_THAT(error_of([&] { KeptAlgorithms(gpu, file).keep(); }),
              AllOf(HasSubstr(file.string()), HasSubstr("expected something else")));
  EXPECT_EQ(read_file(file), "damaged");
}

TEST_F(KeptAlgorithmsTest, WhatCannotBeWrittenIsTriedAgain) {
  const fs::path folder = path("run"), file = folder / "gemm_algorithms.json";
  ChoosingGpu gpu;
  KeptAlgorithms kept(gpu, file);
  gpu.choices = "first";
  CaptureStderr();
  kept.keep();
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("tries again"));
  fs::create_directory(folder);
  kept.keep();
  EXPECT_EQ(read_file(file), "first");
}

}  // namespace
}  // namespace xlstm
