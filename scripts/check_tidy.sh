#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over src/ and tools/, or over the files named. Needs a configured build folder.
# Usage: scripts/check_tidy.sh [BUILD [FILE...]]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
[[ $# -gt 0 ]] && shift
if [[ $# -gt 0 ]]; then files=("$@"); else mapfile -t files < <(git ls-files 'src/*.cpp' 'tools/*.cpp'); fi
# The CUDA runtime's files can only be read where its headers are.
if [[ ! -e build-cuda/compile_commands.json ]]; then
  mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -vE '^src/kernels/cuda/[a-z_]+\.cpp$')
fi
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet 2>/dev/null
