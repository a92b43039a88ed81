#!/usr/bin/env bash
# Everything that only a GPU can tell, without a network, in at most 9 minutes behind the build: the operations and
# whole runs against the CPU's, products, operations and steps timed, a short real training run, the published kernels
# beside ours where they are installed, compute-sanitizer where it works. What matters most comes first, and each part
# has a limit of its own. Writes RESULTS/gpu_NAME.json and RESULTS/gpu_NAME.md: hardware, driver, commit, how each part
# ended, what was left out and why, and what was measured. What a part printed lies beside them in log/.
# Usage: scripts/gpu_check.sh [--seconds N] [RESULTS [BUNDLE.tar.xz]]      RESULTS: [bench/results], N: [540]
# Without a bundle (scripts/bundle.sh) it takes the one that it lies in, or builds what is missing.
# Exit code: 0 all passed, 1 something failed, 2 it cannot run here, 4 nothing failed but something was left out.
set -uo pipefail
total=540
if [[ ${1:-} == --seconds ]]; then
  [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check: --seconds wants a whole number above 0, got '${2:-}'"; exit 2; }
  total=$2
  shift 2
fi
results=$(realpath -m "${1:-bench/results}")
bundle=${2:-}
here=$(cd "$(dirname "$0")" && pwd) root=$here/..
[[ -d $here/configs ]] && root=$here  # of an unpacked bundle

# Seconds that each part may take, of 540: with 2 to end it if it does not end by itself, they add up to less.
declare -A limits=([doctor]=10 [words]=10 [operations]=40 [cells]=30 [wgmma]=30 [runs]=40 [device]=10 [ops]=56 [gemm]=35
                   [step_1.4b_exp]=55 [step_1.4b_sig]=44 [train]=40 [opponents]=55 [step_graph]=25 [memcheck]=30)

query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
name=$(query name)
[[ -n $name ]] || { echo "gpu_check: nvidia-smi names no GPU here"; exit 2; }
driver=$(query driver_version) memory=$(query memory.total | tr -cd 0-9)
slug=$(tr 'A-Z ' 'a-z_' <<< "$name" | tr -cd 'a-z0-9_')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -n $bundle ]]; then
  tar -C "$work" -xaf "$bundle" || exit 2
  bin=$work/xlstm commit=$(cat "$work/xlstm/commit") || { echo "gpu_check: $bundle is no bundle"; exit 2; }
elif [[ -x $here/xlstm ]]; then
  bin=$here commit=$(cat "$here/commit")
else
  export PATH="$PATH:/usr/local/cuda/bin"
  "$root/scripts/build.sh" cuda xlstm device_test || exit 2
  bin=$root/build-cuda commit=$(git -C "$root" rev-parse HEAD)
fi
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:/usr/local/cuda/lib64"
mkdir -p "$results" "$work/log" || exit 2
deadline=$((SECONDS + total))

parts=() verdicts=() seconds=()
note() { parts+=("$1"); verdicts+=("$2"); seconds+=("$3"); echo "$1: $2, $3 s"; }
part() {  # name command...
  local part=$1; shift
  local limit=$((limits[$part] * total / 540)) left=$((deadline - SECONDS)) begin=$SECONDS verdict=passed
  ((limit < 1)) && limit=1
  ((limit > left)) && limit=$left
  if ((limit < 1)); then note "$part" "left out: no time left" 0; return; fi
  timeout -k 2 "$limit" "$@" > "$work/log/$part.txt" 2>&1 < /dev/null
  local rc=$?
  ((rc == 0)) || verdict="failed ($rc)"
  ((rc == 124 || rc == 137)) && verdict="stopped after $limit s"
  note "$part" "$verdict" $((SECONDS - begin))
}

cell=auto  # which kernel whole steps take
step() { "$bin/xlstm" bench step --set run.device=cuda --set run.precision=bf16 --set run.cell_kernel=$cell "$@"; }
step_large() {  # gate: the 1.4 B model at 8192 tokens of context, as much of it at once as fits
  local micro=8
  ((memory < 120000)) && micro=4
  ((memory < 60000)) && micro=1
  step --config "$root/configs/mlstm_$1_1.4b.yaml" --set train.recompute=cheap --set train.context_length=8192 \
    --set train.batch_size=$micro --set train.micro_batch_size=$micro --steps 3 --warmup 2 \
    --save "$work/step_1.4b_$1.json"
}
train() {  # on the project's own text
  "$bin/xlstm" tokenizer train --vocab-size 2048 --as txt --out "$work/tok.model" "$root"/docs/*.md "$root"/src/*/*.h &&
  "$bin/xlstm" data build --tokenizer "$work/tok.model" --as txt --out "$work/data" "$root"/docs/*.md "$root"/src/*/*.h "$root"/src/*/*.cpp &&
  "$bin/xlstm" train --config "$root/configs/quickstart.yaml" --run "$work/run" --set run.device=cuda \
    --set run.precision=bf16 --set run.cell_kernel=$cell --set model.vocab_size=2048 --set "data.train=$work/data" \
    --set "data.validation=$work/data" --set train.steps=100 --set eval.every=0 &&
  cp "$work/run/metrics.jsonl" "$work/log/train_metrics.jsonl"
}
export -f step step_large train
export bin work root memory cell

part doctor "$bin/xlstm" doctor
# Kernels that may hang or leave the device in a fault have processes of their own, the simplest first.
part words "$bin/device_test" --gtest_brief=1 --gtest_filter='*DeviceWords*:Hopper*'
part operations "$bin/device_test" --gtest_brief=1 \
  --gtest_filter='-*DeviceRun*:*DeviceRanks*:*DeviceMlstm*:*DeviceWords*:Hopper*'
part cells "$bin/device_test" --gtest_brief=1 --gtest_filter='*DeviceMlstm*portable'
part wgmma bash -c '"$bin/device_test" --gtest_brief=1 --gtest_filter="*DeviceMlstm*wgmma_no_cluster" &&
  "$bin/device_test" --gtest_brief=1 --gtest_filter="*DeviceMlstm*wgmma"'
[[ ${verdicts[-1]} == passed ]] || cell=portable
part runs "$bin/device_test" --gtest_brief=1 --gtest_filter='*DeviceRun*:*DeviceRanks*:DeviceFaults*'
if [[ $(query compute_cap) == 9.* ]]; then
  part device "$bin/xlstm" bench device --save "$work/device.json"
else
  note device "left out: parts of an sm_90 alone" 0
fi
part ops "$bin/xlstm" bench ops --device cuda --cell-kernel $cell --save "$work/ops.json"
part gemm "$bin/xlstm" bench gemm --device cuda --save "$work/gemm.json"
part step_1.4b_exp bash -c "step_large exp"
part step_1.4b_sig bash -c "step_large sig"
part train bash -c train
if python3 -c 'import torch, triton, mlstm_kernels' 2> /dev/null; then
  ours=()
  [[ -s $work/ops.json ]] && ours=(--ours "$work/ops.json")
  part opponents python3 "$root/bench/opponents/mlstm_kernels_gpu.py" "${ours[@]}" --save "$work/opponents.json"
  # no fault of ours
  [[ ${verdicts[-1]} == passed || ${verdicts[-1]} == left* ]] || verdicts[-1]="left out: the published kernels do not run here (log/opponents.txt)"
else
  note opponents "left out: python3 has no torch, triton and mlstm_kernels here" 0
fi
part step_graph bash -c 'step --config "$root/bench/configs/small.yaml" --set run.cuda_graph=true --steps 5 --warmup 3'
if command -v compute-sanitizer > /dev/null; then
  part memcheck compute-sanitizer --error-exitcode 1 "$bin/device_test" --gtest_brief=1 \
    --gtest_filter='OpTable.RmsNorm:OpTable.CrossEntropy:OpTable.Embedding:*DeviceMlstm.AnyLength*'
  [[ ${verdicts[-1]} == stopped* ]] && verdicts[-1]="left out: ${verdicts[-1]}, nothing found until then"
else
  note memcheck "left out: no compute-sanitizer here" 0
fi

measured=(device ops gemm step_1.4b_exp step_1.4b_sig opponents)
{
  printf '{"gpu": "%s", "memory_mib": %s, "driver": "%s", "commit": "%s", "date": "%s", "parts": [' \
    "$name" "${memory:-0}" "$driver" "$commit" "$(date -u +%F)"
  for i in "${!parts[@]}"; do
    printf '%s{"part": "%s", "verdict": "%s", "seconds": %s}' "$([[ $i == 0 ]] || echo ', ')" "${parts[$i]}" \
      "${verdicts[$i]}" "${seconds[$i]}"
  done
  printf ']'
  for file in "${measured[@]}"; do
    [[ -s $work/$file.json ]] && { printf ', "%s": ' "$file"; cat "$work/$file.json"; }
  done
  printf '}\n'
} > "$results/gpu_$slug.json"
{
  printf '# %s, %s MiB, driver %s, commit %.12s\n\n| part | verdict | s |\n|---|---|---|\n' "$name" "${memory:-0}" \
    "$driver" "$commit"
  for i in "${!parts[@]}"; do printf '| %s | %s | %s |\n' "${parts[$i]}" "${verdicts[$i]}" "${seconds[$i]}"; done
  for file in doctor "${measured[@]}" train; do
    [[ -s $work/log/$file.txt ]] && printf '\n## %s\n\n```\n%s\n```\n' "$file" "$(tail -n 60 "$work/log/$file.txt")"
  done
} > "$results/gpu_$slug.md"
rm -rf "$results/log"; cp -r "$work/log" "$results/log"
all=$(printf '%s\n' "${verdicts[@]}")
grep -qvE '^(passed|left out.*)$' <<< "$all" && exit 1
grep -q '^left out' <<< "$all" && exit 4
exit 0
