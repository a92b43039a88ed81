#!/usr/bin/env bash
# Keeps a run going: starts the command again when it dies, from the last good checkpoint, which is what the same command
# does anyway. Usage: scripts/supervise.sh [--limit N] [--pause SECONDS] COMMAND...
#   scripts/supervise.sh mpirun -np 8 build/xlstm train --config configs/mlstm_sig_1.4b.yaml
# It ends with the command's exit code when that is 0 (done), 2 (wrong input), 3 (the guard), 75 or 130 (stopped on
# purpose), and after N failures [10] without a new checkpoint in between. The pause doubles from SECONDS [5] to ten
# minutes, and is short again after a checkpoint. SIGTERM, SIGINT, SIGHUP and SIGUSR1 are passed on; then nothing is started
# again.
set -uo pipefail
limit=10 pause=5
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --limit) limit=${2:?} ;;
    --pause) pause=${2:?} ;;
    *) echo "supervise: unknown option $1 (--limit N, --pause SECONDS)" >&2; exit 2 ;;
  esac
  shift 2
done
[[ $# -gt 0 ]] || { echo "supervise: expected a command to keep going" >&2; exit 2; }

# Where the run is, to see whether it gets on: --run DIR, or all runs.
run=runs
words=("$@")
for ((i = 0; i + 1 < ${#words[@]}; i++)); do [[ ${words[i]} == --run ]] && run=${words[i + 1]}; done
progress() { find "$run" -path '*/checkpoints/*' -name manifest.json -not -path '*.tmp*' -printf '%T@\n' 2> /dev/null | sort -n | tail -n 1; }

stopped='' child=''
# mpirun that is told to end kills its ranks a second later, which may be too little to save; SIGUSR1 it passes on. The
# child's own name counts: the command may begin with nice or env.
pass_on() {
  local signal=$1
  stopped=$1
  [[ -n "$child" ]] || return
  case $(cat "/proc/$child/comm" 2> /dev/null) in mpirun | mpiexec | orterun) signal=USR1 ;; esac
  kill -"$signal" "$child" 2> /dev/null
}
for signal in TERM INT HUP USR1; do trap "pass_on $signal" "$signal"; done

# Ranks that lose a host end themselves; mpirun itself would wait for it for minutes.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-10}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-5}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-4}

failures=0 wait_now=$pause
while :; do
  before=$(progress)
  setsid "$@" &  # ^C at a terminal is for this script alone
  child=$!
  wait "$child"
  code=$?
  while [[ -n "$stopped" ]] && kill -0 "$child" 2> /dev/null; do wait "$child"; code=$?; done
  child=''
  after=$(progress)
  [[ -n "$stopped" ]] && exit "$code"
  case $code in 0 | 2 | 3 | 75 | 130) exit "$code" ;; esac
  if [[ "$after" != "$before" ]]; then failures=0 wait_now=$pause; fi
  failures=$((failures + 1))
  if ((failures >= limit)); then
    echo "supervise: $failures failures in a row without a new checkpoint; the last exit code was $code" >&2
    exit "$code"
  fi
  echo "supervise: exit code $code; starting again in $wait_now s (failure $failures of $limit)" >&2
  sleep "$wait_now" & wait $!
  [[ -n "$stopped" ]] && exit 75
  wait_now=$((wait_now * 2 > 600 ? 600 : wait_now * 2))
done
