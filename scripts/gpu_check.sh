#!/usr/bin/env bash
# Everything that only a GPU can tell, in at most 9 minutes and without a network: the operations and whole runs against
# the CPU's, compute-sanitizer where it works, products, operations and steps timed, a short real training run. Writes
# RESULTS/gpu_NAME.json and RESULTS/gpu_NAME.md; what a part printed lies beside them in log/.
# Usage: scripts/gpu_check.sh [RESULTS [BUNDLE.tar.xz]]      RESULTS: [bench/results]
# Without a bundle (scripts/bundle.sh) it builds what is missing.
set -uo pipefail
results=$(realpath -m "${1:-bench/results}")
bundle=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
deadline=$((SECONDS + 540))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ -n $bundle ]]; then
  tar -C "$work" -xJf "$bundle" || exit 2
  bin=$work/xlstm commit=$(cat "$work/xlstm/commit")
else
  export PATH="$PATH:/usr/local/cuda/bin"
  "$root/scripts/build.sh" cuda xlstm device_test || exit 2
  bin=$root/build-cuda commit=$(git -C "$root" rev-parse HEAD)
fi
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:/usr/local/cuda/lib64"
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
name=$(query name); driver=$(query driver_version)
[[ -n $name ]] || { echo "gpu_check: nvidia-smi names no GPU here"; exit 2; }
slug=$(tr 'A-Z ' 'a-z_' <<< "$name" | tr -cd 'a-z0-9_')
mkdir -p "$results" "$work/log"

verdicts=()
part() {  # name seconds command...: runs it within what is left of the time
  local part=$1 limit=$2; shift 2
  local left=$((deadline - SECONDS)) begin=$SECONDS
  ((limit > left)) && limit=$left
  if ((limit < 5)); then verdicts+=("$part|left out|0"); return 1; fi
  timeout "$limit" "$@" > "$work/log/$part.txt" 2>&1
  local rc=$?
  local verdict=passed
  ((rc == 0)) || verdict="failed ($rc)"
  ((rc == 124)) && verdict="stopped after $limit s"
  verdicts+=("$part|$verdict|$((SECONDS - begin))")
  echo "$part: $verdict, $((SECONDS - begin)) s"
  return $rc
}

[[ -n $bundle ]] && export LD_LIBRARY_PATH="$bin/lib:$LD_LIBRARY_PATH"

part doctor 60 "$bin/xlstm" doctor
part operations 150 "$bin/device_test" --gtest_brief=1 --gtest_filter='-*DeviceRun*'
part runs 90 "$bin/device_test" --gtest_brief=1 --gtest_filter='*DeviceRun*:DeviceFaults*'
part step_graph 60 "$bin/xlstm" bench step --config "$root/bench/configs/small.yaml" --set run.device=cuda \
  --set run.precision=bf16 --set run.cuda_graph=true --steps 5 --warmup 3
part gemm 60 "$bin/xlstm" bench gemm --device cuda --save "$work/gemm.json"
part ops 90 "$bin/xlstm" bench ops --device cuda --save "$work/ops.json"

# The 1.4 B model at 8192 tokens of context, as much of it at once as fits.
memory=$(query memory.total | tr -cd 0-9)
micro=8; ((memory < 120000)) && micro=4; ((memory < 60000)) && micro=1
for gate in exp sig; do
  part "step_1.4b_$gate" 100 "$bin/xlstm" bench step --config "$root/configs/mlstm_${gate}_1.4b.yaml" \
    --set run.device=cuda --set run.precision=bf16 --set train.recompute=cheap --set train.context_length=8192 --set train.batch_size=$micro \
    --set train.micro_batch_size=$micro --steps 3 --warmup 2 --save "$work/step_1.4b_$gate.json"
done

train() {  # on the project's own text
  "$bin/xlstm" tokenizer train --vocab-size 2048 --as txt --out "$work/tok.model" "$root"/docs/*.md "$root"/src/*/*.h &&
  "$bin/xlstm" data build --tokenizer "$work/tok.model" --as txt --out "$work/data" "$root"/docs/*.md "$root"/src/*/*.h "$root"/src/*/*.cpp &&
  "$bin/xlstm" train --config "$root/configs/quickstart.yaml" --run "$work/run" --set run.device=cuda \
    --set run.precision=bf16 --set model.vocab_size=2048 --set "data.train=$work/data" \
    --set "data.validation=$work/data" --set train.steps=100 --set eval.every=0 &&
  cp "$work/run/metrics.jsonl" "$work/log/train_metrics.jsonl"
}
export -f train; export bin work root
part train 60 bash -c train
command -v compute-sanitizer > /dev/null &&
  part memcheck 120 compute-sanitizer --error-exitcode 1 "$bin/device_test" --gtest_brief=1 \
    --gtest_filter='OpTable.RmsNorm:OpTable.CrossEntropy:OpTable.Embedding:*DeviceMlstm.AnyLength*'

{ # one JSON and one table
  printf '{"gpu": "%s", "driver": "%s", "commit": "%s", "date": "%s", "parts": [' "$name" "$driver" "$commit" "$(date -u +%F)"
  for i in "${!verdicts[@]}"; do
    IFS='|' read -r p v s <<< "${verdicts[$i]}"
    printf '%s{"part": "%s", "verdict": "%s", "seconds": %s}' "$([[ $i == 0 ]] || echo ', ')" "$p" "$v" "$s"
  done
  printf ']'
  for file in gemm ops step_1.4b_exp step_1.4b_sig; do
    [[ -s $work/$file.json ]] && { printf ', "%s": ' "$file"; cat "$work/$file.json"; }
  done
  printf '}\n'
} > "$results/gpu_$slug.json"
{
  printf '# %s, driver %s, commit %.12s\n\n| part | verdict | s |\n|---|---|---|\n' "$name" "$driver" "$commit"
  for v in "${verdicts[@]}"; do printf '| %s |\n' "${v//|/ | }"; done
  for file in doctor gemm ops step_1.4b_exp step_1.4b_sig train; do
    [[ -s $work/log/$file.txt ]] && printf '\n## %s\n\n```\n%s\n```\n' "$file" "$(tail -n 60 "$work/log/$file.txt")"
  done
} > "$results/gpu_$slug.md"
rm -rf "$results/log"; cp -r "$work/log" "$results/log"
for v in "${verdicts[@]}"; do [[ $v == *"|passed|"* || $v == *"left out"* ]] || exit 1; done
for v in "${verdicts[@]}"; do [[ $v == *"|passed|"* ]] || exit 4; done  # not everything was tried
