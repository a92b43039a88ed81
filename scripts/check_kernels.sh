#!/usr/bin/env bash
# Builds the program with its CUDA kernels where there is an nvcc, and holds the kernels to src/kernels/cuda/budget.txt:
# registers, bytes of spills, of stack and of static shared memory (dynamic: launch() and static_asserts), by the
# compiler's own report (scripts/nvcc_with_report.sh). A kernel without
# a line there fails, and so does a line without a kernel, and a kernel whose matrix instructions the compiler says it
# has to serialise (C75xx). No GPU is needed. Without nvcc it does nothing, but fails where CI=true says that it counts.
# Usage: scripts/check_kernels.sh [--update]      --update writes what was found as the new budget
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
if [[ -z "$nvcc" ]]; then
  echo "no nvcc: the CUDA program is not built"
  [[ ${CI:-} != true ]]
  exit
fi
export PATH="$(dirname "$nvcc"):$PATH"
scripts/build.sh cuda xlstm device_test
budget=src/kernels/cuda/budget.txt
found=$(mktemp)
trap 'rm -f "$found"' EXIT

for report in build-cuda/CMakeFiles/xlstm_gpu_*.dir/src/kernels/cuda/*.cu.o.report; do
  file=$(basename "$report" .cu.o.report)
  [[ -e src/kernels/cuda/$file.cu ]] || continue  # of a source that is gone
  if grep -E 'C75[0-9][0-9]' "$report"; then echo "check_kernels: $file.cu: serialised matrix instructions"; exit 1; fi
  c++filt < "$report" | awk -v file="$file" '
    /Compiling entry function/ { name = $0; sub(/.*entry function .(void )?/, "", name)
                                 arch = name; sub(/.*. for ./, "", arch); sub(/[^a-z0-9_].*/, "", arch)
                                 gsub(/\(anonymous namespace\)::/, "", name); gsub(/xlstm::([a-z_]+::)*/, "", name)
                                 while (match(name, /\([A-Za-z]+\)[0-9]/))  # an enumerator: (Type)1
                                   name = substr(name, 1, RSTART - 1) substr(name, RSTART + RLENGTH - 1)
                                 sub(/\(.*/, "", name); gsub(/ /, "", name) }
    /bytes stack frame/ { stack = $1; spill = $5 }
    /Used [0-9]+ registers/ { shared = 0
                              for (i = 1; i < NF; ++i) if ($i == "Used") registers = $(i + 1)
                              for (i = 2; i < NF; ++i) if ($(i + 1) ~ /^smem/) shared = $(i - 1)
                              print arch, file "/" name, registers, spill, stack, shared }' >> "$found"
done
sort -o "$found" "$found"

if [[ "${1:-}" == --update ]]; then
  { echo "# architecture kernel registers spill_bytes stack_bytes shared_bytes      (scripts/check_kernels.sh)"; cat "$found"; } > $budget
  exit 0
fi
awk 'NR == FNR { if ($1 !~ /^#/) budget[$1 " " $2] = $3 " " $4 " " $5 " " $6; next }
     { key = $1 " " $2; split(budget[key], most, " ")
       seen[key] = 1
       if (!(key in budget)) { print "check_kernels: " key " has no line in the budget"; bad = 1 }
       else if ($3 > most[1] || $4 > most[2] || $5 > most[3] || $6 > most[4]) {
         print "check_kernels: " key " takes " $3 " registers, " $4 " bytes of spills, " $5 " of stack, " $6 " of shared memory; the budget is " budget[key]; bad = 1 } }
     END { for (key in budget) if (!(key in seen)) { print "check_kernels: no kernel for the line " key; bad = 1 }
           exit bad }' $budget "$found"
# The program must start where there is no GPU, and say so.
if ! command -v nvidia-smi > /dev/null; then
  said=$(build-cuda/xlstm bench device 2>&1) && rc=0 || rc=$?
  [[ $rc == 2 && $(wc -l <<< "$said") == 1 ]] || { echo "check_kernels: without a GPU, xlstm bench device exits $rc: $said"; exit 1; }
fi
echo "$(wc -l < "$found") kernels within their budgets"
