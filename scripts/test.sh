#!/usr/bin/env bash
# Installs what is missing, builds, and passes the tests. Usage: scripts/test.sh [--quick]
# --quick leaves out clang-tidy and the builds with sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=${1:-}

step() { printf '\n== %s\n' "$*"; }

step "dependencies"
scripts/install_dependencies.sh --tests

step "style and layers"
scripts/check_style.sh
scripts/check_layers.sh
scripts/check_ops.sh

step "build"
scripts/build.sh cpu
scripts/check_isa.sh build

step "CUDA program and kernels"
scripts/check_kernels.sh

step "tests"
ctest --test-dir build --output-on-failure -j "$(nproc)" --no-tests=error

if [[ "$quick" != --quick ]]; then
  # Other releases know other checks: the one that the project is kept clean with is the reference.
  if clang-tidy --version | grep -q 'version 14\.'; then
    step "clang-tidy"
    scripts/check_tidy.sh build
  fi

  step "address and undefined-behaviour sanitizers"
  tests=(core_test kernels_test data_test dist_test model_test optim_test train_test)
  scripts/build.sh cpu-debug "${tests[@]}"
  for test in "${tests[@]}"; do "build-debug/$test" --gtest_brief=1; done

  step "thread sanitizer"
  scripts/build.sh cpu-tsan core_test data_test dist_test train_test
  build-tsan/core_test --gtest_brief=1 --gtest_filter='ParallelTest*'
  build-tsan/data_test --gtest_brief=1 --gtest_filter='Loader*:DatasetTest.ThreadsAndFormats*'
  build-tsan/dist_test --gtest_brief=1
  build-tsan/train_test --gtest_brief=1 --gtest_filter='CheckpointWriter*:*Exactness*:Trainer*'
  build-tsan/train_test --gtest_brief=1 \
    --gtest_filter='RanksTest.TheScheduleOfGpus*:RanksTest.ADiskThatIsFull*:RanksTest.ResumedOn*:RanksTest.AMoment*'
fi
