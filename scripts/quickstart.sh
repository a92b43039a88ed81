#!/usr/bin/env bash
# From nothing to two trained models in a few minutes on a CPU: installs what is missing, builds, makes a tokenizer and
# token shards from text, trains an mLSTM with exponential and one with sigmoid input gate on the same tokens,
# evaluates both, samples from both and leaves a report. Running it again goes on where it stopped.
#
# Usage: scripts/quickstart.sh [--text PATH] [--steps N]
#   --text PATH   your own text: a file or a folder of .txt, .jsonl, also .gz and .zst   [the C++ library's headers]
#   --steps N     training steps of each model [240]
set -euo pipefail
cd "$(dirname "$0")/.."

text=""
steps=240
while [[ $# -gt 0 ]]; do
  case "$1" in
    --text) text=${2:?--text needs a path}; shift 2 ;;
    --steps) steps=${2:?--steps needs a number}; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
[[ -z "$text" || -e "$text" ]] || { echo "error: --text $text: no such file or folder" >&2; exit 2; }

say() { printf '\n== %s\n' "$*"; }
field() { grep -o "\"$1\":[-+0-9.e]*" | sed 's/.*://'; }  # every value of that name in JSON lines

say "installing what is missing"
scripts/install_dependencies.sh

say "building build/xlstm"
scripts/build.sh cpu xlstm

# The text that every machine with a compiler has: the headers of the C++ standard library.
as=()
if [[ -z "$text" ]]; then
  text=$(echo | g++ -E -x c++ -v - 2>&1 | sed -n 's|^ \(/.*/c++/[0-9]*\)$|\1|p' | head -n 1)
  as=(--as txt)
fi
work=runs/quickstart
if [[ -e $work/text && "$(cat $work/text)" != "$text" ]]; then
  echo "error: $work was made from $(cat $work/text); move it away to start with $text" >&2
  exit 2
fi
mkdir -p $work && echo "$text" > $work/text

say "tokenizer and tokens from $text"
[[ -e $work/tokenizer.model ]] ||
  build/xlstm tokenizer train --vocab-size 4096 "${as[@]}" --out $work/tokenizer.model "$text"
build/xlstm data build --tokenizer $work/tokenizer.model --out $work/data --validation-fraction 0.05 "${as[@]}" "$text"

for gate in exp sigmoid; do
  say "training mLSTM with input gate: $gate"
  build/xlstm train --config configs/quickstart.yaml --run $work/$gate --set "train.steps=$steps" \
    --set "model.mixer.input_gate=$gate" --set data.train=$work/data --set data.validation=$work/data
done

say "evaluation on held-out documents"
printf '%-12s %10s %12s %15s %12s\n' "input gate" "loss" "perplexity" "bits per byte" "tokens/s"
for gate in exp sigmoid; do
  result=$(build/xlstm eval --checkpoint $work/$gate --data $work/data --json 2>/dev/null)
  speed=$(field tokens_per_second < $work/$gate/metrics.jsonl | sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}')
  printf '%-12s %10.4f %12.2f %15.4f %12.0f\n' "$gate" "$(field loss <<< "$result" | head -n 1)" \
    "$(field perplexity <<< "$result")" "$(field bits_per_byte <<< "$result")" "$speed"
done
printf '%-12s %10.4f   (nats per token of a model that knows only how often each token comes)\n' "unigram" "$(field unigram_entropy <<< "$result")"

for gate in exp sigmoid; do
  say "a sample: $gate"
  build/xlstm generate --checkpoint $work/$gate --prompt $'template <typename T>\n' --tokens 120 --temperature 0.7 --top-p 0.9
done
say "report"
build/xlstm report $work/exp $work/sigmoid --out $work/report.html
say "done; the runs are in $work; open $work/report.html in a browser"
