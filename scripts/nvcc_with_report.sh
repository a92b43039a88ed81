#!/usr/bin/env bash
# Runs nvcc (CMake's launcher of it) and keeps what ptxas reports, per object: what the kernels take, for
# scripts/check_kernels.sh. Usage: scripts/nvcc_with_report.sh nvcc ARGUMENTS... -o OBJECT ...
set -euo pipefail
object=
for ((i = 1; i < $#; ++i)); do [[ ${!i} == -o ]] && { j=$((i + 1)); object=${!j}; }; done
[[ $object == *.o ]] || exec "$@"
cache=$(command -v ccache || true)  # keeps reports, too
if ! $cache "$@" -Xptxas -v > "$object.report" 2>&1; then
  cat "$object.report" >&2
  exit 1
fi
grep -vE '^(ptxas info|nvcc info|    )' "$object.report" >&2 || true
