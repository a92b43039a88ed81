#!/bin/sh
# usage: scripts/check_isa.sh BUILD_FOLDER
# The CPU kernels are compiled once per instruction set. An inline function or template that both levels emit under one
# name is merged by the linker, which keeps the first copy it meets. If that were the AVX-512 one, a processor without
# AVX-512 would run into its instructions. So: in the linked programs, only functions that bear cpu_avx512 in their name
# may hold an EVEX-encoded instruction (first byte 62), and besides these only HardwareTiles and its test AMX's words.
set -eu
build=${1:?usage: scripts/check_isa.sh BUILD_FOLDER}

checked=0 bad=0
for program in "$build/xlstm" "$build/kernels_test"; do
  [ -x "$program" ] || continue
  checked=$((checked + 1))
  found=$(objdump --disassemble "$program" | awk -F '\t' '
    /^[0-9a-f]+ <.*>:$/ { name = $0; sub(/^[^<]*</, "", name); sub(/>:$/, "", name); level = name ~ /cpu_avx512/; next }
    level && $2 ~ /^62 / { ++inside }
    !level && NF >= 3 && $2 ~ /^62 / { outside[name] = 1 }
    !level && NF >= 3 && $3 ~ /^(ldtilecfg|tile|tdp)/ && name !~ /Tiles/ { outside[name] = 1 }
    END { if (!inside) print "(no AVX-512 kernel found: nothing was proved)"; for (name in outside) print name }')
  if [ -n "$found" ]; then
    echo "$found" | c++filt | sed "s:^:check_isa\: $program\: AVX-512 instructions in :" >&2
    bad=1
  fi
done
if [ $checked -eq 0 ]; then
  echo "check_isa: $build holds neither xlstm nor kernels_test" >&2
  exit 1
fi
exit $bad
