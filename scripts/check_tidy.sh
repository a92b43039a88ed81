#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over src/ and tools/, or over the files named. Needs a configured build folder.
# What was found clean is not looked at again until it, anything that it includes, its command or the checks change:
# ~/.cache/xlstm-tidy remembers, as ccache does for the compiler. Delete it to look at everything.
# Usage: scripts/check_tidy.sh [BUILD [FILE...]]
set -euo pipefail
cd "$(dirname "$0")/.."
export build=${1:-build} cache=${XDG_CACHE_HOME:-$HOME/.cache}/xlstm-tidy
[[ $# -gt 0 ]] && shift
if [[ $# -gt 0 ]]; then files=("$@"); else mapfile -t files < <(git ls-files 'src/*.cpp' 'tools/*.cpp'); fi
# The CUDA runtime's files can only be read where its headers are.
if [[ ! -e build-cuda/compile_commands.json ]]; then
  mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -vE '^src/kernels/cuda/[a-z_]+\.cpp$')
fi
mkdir -p "$cache"
find "$cache" -type f -mtime +30 -delete

# Everything that the answer for a file depends on; nothing for a file that the build folder does not know.
inputs_of() {
  local command
  command=$(grep -B1 -F "\"file\": \"$PWD/$1\"" "$build/compile_commands.json" | sed -n 's/^  "command": "\(.*\)",$/\1/p')
  [[ -n $command ]] || return 1
  clang-tidy --version
  cat .clang-tidy
  printf '%s\n' "$command"
  # -M: all headers, the system's, too
  eval "$(head -n 1 <<< "$command" | sed 's/ -o .*//; s/\\\(.\)/\1/g') -M $1" |
    tr -s ' \\' '\n' | grep -v ':$' | sort -u | grep . | xargs cat
}
check() {
  local key
  key=$(inputs_of "$1" 2> /dev/null | sha256sum) || key=
  key=${key%% *}
  [[ -n $key && -e $cache/$key ]] && return
  clang-tidy -p "$build" --quiet "$1" 2> /dev/null || return
  [[ -z $key ]] || touch "$cache/$key"
}
export -f inputs_of check
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} bash -c 'set -o pipefail; check {}'
