#!/usr/bin/env bash
# Formatting, and the sizes that keep rooms small: files of at most 400 lines. --fix formats.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
if [[ "${1:-}" == --fix ]]; then
  clang-format -i "${sources[@]}"
  exit 0
fi
bad=0
for file in "${sources[@]}"; do
  lines=$(wc -l < "$file")
  [[ $lines -le 400 ]] || { echo "$file: $lines lines; at most 400 (CONTRIBUTING.md)"; bad=1; }
done
# One version is the reference: formatters of other releases disagree about details.
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
  clang-format --dry-run --Werror "${sources[@]}" || { echo "run scripts/check_style.sh --fix"; bad=1; }
fi
exit $bad
