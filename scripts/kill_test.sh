#!/usr/bin/env bash
# kill -9 at random moments: a run with frequent saves is killed and started again, over and over; in the end its weights
# and losses must be those of a run that nobody disturbed, to the bit.
#
# Usage: scripts/kill_test.sh [KILLS] [SEED] [RANKS]      [200, 1, 1]; 200 take about two minutes
# With several ranks, one of them is killed, at random; the whole job must end within TIMEOUT seconds, and goes on with
# another number of ranks, up to RANKS.
# XLSTM_PROGRAM names the program [build/xlstm].
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
kills=${1:-200}
RANDOM=${2:-1}
ranks=${3:-1}
readonly TIMEOUT=60
program=$(realpath "${XLSTM_PROGRAM:-$here/build/xlstm}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Several ranks: weights enough that each has its share of them; the reference has one rank.
width=32
((ranks > 1)) && width=128
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Nobody is asked politely: the ranks that are left have nothing to save.
mpi() { exec mpirun --oversubscribe --mca odls_base_sigkill_timeout 0 "$@"; }

# Long enough that no life of a process is likely to see the end of it before the last kill.
steps=$((kills * 4 + 8))
words=(the state of a gate is memory that decays unless the input opens it and nothing else remains)
for ((document = 0; document < 200; document++)); do
  line="document $document:"
  for ((i = 0; i < 40; i++)); do line+=" ${words[RANDOM % ${#words[@]}]}"; done
  echo "{\"text\": \"$line\"}"
done > text.jsonl
cat > config.yaml <<YAML
run: {name: killed, threads: 1}
model:
  vocab_size: 300
  embedding_dim: $width
  num_blocks: 1
  mixer: {num_heads: 2, chunk_size: 8}
  ffn: {round_up_to: 16}
data: {train: data, validation: data}
train: {steps: $steps, batch_size: 4, micro_batch_size: 1, context_length: 16}
parallel: {timeout: $TIMEOUT}
schedule: {warmup_steps: 2}
checkpoint: {every: 1, keep: 2}
eval: {every: 7, batches: 1}
YAML
{
  "$program" tokenizer train --vocab-size 300 --out tok.model text.jsonl
  "$program" data build --tokenizer tok.model --out data --validation-fraction 0.1 text.jsonl
} > prepare.log 2>&1 || { cat prepare.log; exit 1; }

ranks_of() { pgrep -P "$1" -f "^$program" || true; }
train() { "$program" train --config config.yaml --run "$@" 2>> "$1.log"; }
sha() { "$program" checkpoint info "$1" --json 2> /dev/null | sed -E 's/.*"weights_sha256":"([0-9a-f]+)".*/\1/'; }
losses() { grep -o '"step":[0-9]*,"tokens":[0-9]*,"loss":[^,]*,"grad_norm":[^,]*,"lr":[^,]*' "$1/metrics.jsonl"; }

train reference --set checkpoint.every=0
losses reference > reference.losses

done_kills=0 rounds=0 lives=0
check() {
  rounds=$((rounds + 1))
  losses run > run.losses
  [[ "$(sha run)" == "$(sha reference)" ]] || { echo "FAILED: the weights differ"; exit 1; }
  cmp run.losses reference.losses || { echo "FAILED: the losses differ"; exit 1; }
  "$program" checkpoint verify run > /dev/null 2>&1 || { echo "FAILED: a checkpoint is damaged"; exit 1; }
  leftovers=$(find run -name '*.tmp*')
  [[ -z "$leftovers" ]] || { echo "FAILED: left behind: $leftovers"; exit 1; }
}

damaged=0
while ((done_kills < kills)); do
  lives=$((lives + 1))
  if ((ranks == 1)); then
    "$program" train --config config.yaml --run run 2>> run.log &
    life=$! victim=$life
    sleep "0.$(printf %03d $((20 + RANDOM % 700)))"
  else
    now=$((1 << (RANDOM % 8)))
    ((now > ranks || now == 1)) && now=$ranks
    (mpi -np "$now" "$program" train --config config.yaml --run run) > /dev/null 2>> run.log &
    life=$!
    # mpirun takes its time on a machine that has other work: the moment counts from when all ranks are there.
    while kill -0 "$life" 2> /dev/null && (($(ranks_of "$life" | wc -l) < now)); do sleep 0.02; done
    sleep "$((RANDOM % 3)).$(printf %03d $((RANDOM % 1000)))"
    victim=$(ranks_of "$life" | shuf -n 1 --random-source=<(yes "$lives") || true)
  fi
  begin=$SECONDS
  if [[ -n "$victim" ]] && kill -9 "$victim" 2> /dev/null; then
    wait "$life" 2> /dev/null && code=0 || code=$?
    ((SECONDS - begin <= TIMEOUT)) || { echo "FAILED: the job took $((SECONDS - begin)) s to end"; exit 1; }
    if ((code == 137 || (ranks > 1 && code != 0))); then
      done_kills=$((done_kills + 1))
      # Nothing with the name of a checkpoint may be anything but whole.
      if [[ -n "$(ls -d run/checkpoints/step_* 2> /dev/null | grep -v tmp)" ]]; then
        "$program" checkpoint verify run > /dev/null 2>> verify.log || damaged=$((damaged + 1))
      fi
      continue
    fi
  else
    wait "$life" && code=0 || code=$?
  fi
  ((code == 0)) || { tail -n 5 run.log; echo "FAILED: the program ended with $code"; exit 1; }
  check  # it came to its end before the kill: compare, and begin another
  rm -rf run
done
train run || { tail -n 5 run.log; echo "FAILED: the last start"; exit 1; }
check

resumed=$(grep -c '^resumed from' run.log || true)
skipped=$(grep -c 'checkpoint skipped' run.log || true)
echo "$done_kills kills in $lives lives, $resumed resumed from a checkpoint, $rounds complete run(s) of $steps steps"
echo "checkpoints found damaged after a kill: $damaged; skipped at a start: $skipped"
echo "weights and losses are those of the undisturbed run"
[[ $damaged -eq 0 && $skipped -eq 0 ]]
