#!/usr/bin/env bash
# Compiles the CUDA kernels where there is an nvcc, and holds them to src/kernels/cuda/budget.txt: registers, bytes of
# spills and of stack, by the compiler's own report. A kernel without a line there fails, and so does one whose matrix
# instructions the compiler says it has to serialise (C75xx). No GPU is needed.
# Usage: scripts/check_kernels.sh [--update]      --update writes what was found as the new budget
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
[[ -n "$nvcc" ]] || { echo "no nvcc: the CUDA kernels are not compiled"; exit 0; }
budget=src/kernels/cuda/budget.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {  # architecture
  "$nvcc" -std=c++20 -arch="$1" --expt-relaxed-constexpr -Isrc -Xptxas -v -cubin -o "$work/$1.cubin" \
    src/kernels/cuda/mlstm/portable.cu > "$work/$1.log" 2>&1 || { cat "$work/$1.log"; return 1; }
}
compile sm_80 & first=$!
compile sm_90a
wait $first

for arch in sm_80 sm_90a; do
  if grep -E 'C75[0-9][0-9]' "$work/$arch.log"; then echo "check_kernels: serialised matrix instructions ($arch)"; exit 1; fi
  c++filt < "$work/$arch.log" | awk -v arch="$arch" '
    /Compiling entry function/ { name = $0; sub(/.*function .(void )?/, "", name); gsub(/\(xlstm::mlstm::Pass\)/, "", name); sub(/\(.*/, "", name)
                                 gsub(/xlstm::mlstm::| /, "", name) }
    /bytes stack frame/ { stack = $1; spill = $5 }
    /Used [0-9]+ registers/ { for (i = 1; i < NF; ++i) if ($i == "Used") registers = $(i + 1)
                              print arch, name, registers, spill, stack }'
done | sort > "$work/found"

if [[ "${1:-}" == --update ]]; then
  { echo "# architecture kernel registers spill_bytes stack_bytes      (scripts/check_kernels.sh)"; cat "$work/found"; } > $budget
  exit 0
fi
awk 'NR == FNR { if ($1 !~ /^#/) budget[$1 " " $2] = $3 " " $4 " " $5; next }
     { key = $1 " " $2; split(budget[key], most, " ")
       if (!(key in budget)) { print "check_kernels: " key " has no line in the budget"; bad = 1 }
       else if ($3 > most[1] || $4 > most[2] || $5 > most[3]) {
         print "check_kernels: " key " takes " $3 " registers, " $4 " bytes of spills, " $5 " of stack; the budget is " budget[key]; bad = 1 } }
     END { exit bad }' $budget "$work/found"
echo "$(wc -l < "$work/found") kernels within their budgets"
