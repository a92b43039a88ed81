#!/usr/bin/env bash
# Compiles the CUDA sources where there is an nvcc, and holds their kernels to src/kernels/cuda/budget.txt: registers,
# bytes of spills and of stack, by the compiler's own report. A kernel without a line there fails, and so does a line
# without a kernel, a warning, and a kernel whose matrix instructions the compiler says it has to serialise (C75xx).
# No GPU is needed.
# Usage: scripts/check_kernels.sh [--update]      --update writes what was found as the new budget
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
[[ -n "$nvcc" ]] || { echo "no nvcc: the CUDA kernels are not compiled"; exit 0; }
cache=$(command -v ccache || true)  # keeps reports, too
budget=src/kernels/cuda/budget.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {  # name architecture...
  local name=$1
  # nvcc cannot evaluate fmt's format strings at compile time, and takes fmt for constexpr only if told so.
  local options=(-std=c++20 --expt-relaxed-constexpr -DFMT_CONSTEVAL= -DFMT_USE_CONSTEXPR=1 -Isrc -Xptxas -v -c)
  for arch in "${@:2}"; do options+=(-gencode "arch=compute_${arch#sm_},code=$arch"); done
  local out="$work/${name//\//.}.${2}"
  $cache "$nvcc" "${options[@]}" -o "$out.o" "src/kernels/cuda/$name.cu" > "$out.log" 2>&1 || { cat "$out.log"; return 1; }
  if grep -E 'warning|C75[0-9][0-9]' "$out.log"; then echo "check_kernels: warnings in $name.cu"; return 1; fi
  c++filt < "$out.log" | awk -v file="$name" '
    /Compiling entry function/ { name = $0; sub(/.*entry function .(void )?/, "", name)
                                 arch = name; sub(/.*. for ./, "", arch); sub(/[^a-z0-9_].*/, "", arch)
                                 gsub(/\(anonymous namespace\)::/, "", name); gsub(/xlstm::([a-z_]+::)*/, "", name)
                                 while (match(name, /\([A-Za-z]+\)[0-9]/))  # an enumerator: (Type)1
                                   name = substr(name, 1, RSTART - 1) substr(name, RSTART + RLENGTH - 1)
                                 sub(/\(.*/, "", name); gsub(/ /, "", name) }
    /bytes stack frame/ { stack = $1; spill = $5 }
    /Used [0-9]+ registers/ { for (i = 1; i < NF; ++i) if ($i == "Used") registers = $(i + 1)
                              print arch, file "/" name, registers, spill, stack }' > "$out.found"
}

# Two at a time, the longest first: the scans take as long as all the others, so each of their architectures is a job.
jobs=("mlstm/portable sm_80" "mlstm/portable sm_90a")
for file in $(cd src/kernels/cuda && find * -name '*.cu' | sort); do
  [[ $file == mlstm/portable.cu ]] || jobs+=("${file%.cu} sm_80 sm_90a")
done
export -f compile
export nvcc cache work CCACHE_NOHASHDIR=1
printf '%s\n' "${jobs[@]}" | xargs -P 2 -I{} bash -euo pipefail -c 'compile {}'
sort "$work"/*.found > "$work/found"

if [[ "${1:-}" == --update ]]; then
  { echo "# architecture kernel registers spill_bytes stack_bytes      (scripts/check_kernels.sh)"; cat "$work/found"; } > $budget
  exit 0
fi
awk 'NR == FNR { if ($1 !~ /^#/) budget[$1 " " $2] = $3 " " $4 " " $5; next }
     { key = $1 " " $2; split(budget[key], most, " ")
       seen[key] = 1
       if (!(key in budget)) { print "check_kernels: " key " has no line in the budget"; bad = 1 }
       else if ($3 > most[1] || $4 > most[2] || $5 > most[3]) {
         print "check_kernels: " key " takes " $3 " registers, " $4 " bytes of spills, " $5 " of stack; the budget is " budget[key]; bad = 1 } }
     END { for (key in budget) if (!(key in seen)) { print "check_kernels: no kernel for the line " key; bad = 1 }
           exit bad }' $budget "$work/found"
echo "$(wc -l < "$work/found") kernels within their budgets"
