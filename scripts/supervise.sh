#!/usr/bin/env bash
# Keeps a run going: starts the command again when it dies, from the last good checkpoint, which is what the same command
# does anyway. Usage: scripts/supervise.sh [--limit N] [--pause SECONDS] COMMAND...
#   scripts/supervise.sh mpirun -np 8 build/xlstm train --config configs/mlstm_sig_1.4b.yaml
# It ends with the command's exit code when that is 0 (done), 2 (wrong input), 3 (the guard), 75 or 130 (stopped on
# purpose), 126 or 127 (no such command), and after N failures [10] without a new checkpoint in between. The pause doubles
# from SECONDS [5] to ten minutes, and is short again after a checkpoint. Exit code 4 (weights differ between ranks) is
# started again once, which heals a bit that flipped; the second time ends it, whatever lies between: that is a machine
# to be taken out. SIGTERM, SIGINT, SIGHUP and SIGUSR1 are passed on; then nothing is started again. Exit code 75 when
# none of it was running at that moment.
set -uo pipefail
refuse() { echo "supervise: $1" >&2; exit 2; }
limit=10 pause=5
while [[ "${1:-}" == -* ]]; do
  option=${1%%=*}
  case "$option" in
    --limit | --pause) ;;
    --help | -h) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    --) shift; break ;;
    *) refuse "unknown option $1 (--limit N, --pause SECONDS, --help)" ;;
  esac
  if [[ "$1" == *=* ]]; then value=${1#*=}; else value=${2:-}; shift; fi
  [[ "$value" =~ ^[0-9]{1,9}$ ]] || refuse "$option '$value': a whole number is expected after it"
  if [[ "$option" == --limit ]]; then limit=$((10#$value)); else pause=$((10#$value)); fi
  shift
done
((limit >= 1)) || refuse "--limit $limit: at least 1 is expected"
[[ $# -gt 0 ]] || refuse "expected a command to keep going"

# Where the run is, to see whether it gets on: --run DIR or --run=DIR, or all runs.
run=runs
words=("$@")
for ((i = 0; i < ${#words[@]}; i++)); do
  case "${words[i]}" in
    --run) run=${words[i + 1]:-$run} ;;
    --run=?*) run=${words[i]#--run=} ;;
  esac
done
progress() { find "$run" -path '*/checkpoints/*' -name manifest.json -not -path '*.tmp*' -printf '%T@\n' 2> /dev/null | sort -n | tail -n 1; }

# Whether process $1 has a handler for signal $2 yet: until then it would die of it, and save nothing.
catches() {
  local mask
  mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2> /dev/null)
  [[ -n "$mask" ]] && (((16#$mask >> ($(kill -l "$2") - 1)) & 1))
}

# mpirun that is told to end kills its ranks a second later, which may be too little to save; SIGUSR1 it passes on. The
# child's own name counts: the command may begin with nice or env.
stopped='' child='' told='' interrupted=''
pass_on() {
  local signal=$1
  stopped=$1 interrupted=1
  [[ -n "$child" ]] || return
  for ((n = 0; n < 30; n++)); do  # three seconds for a command that has only just begun
    case $(cat "/proc/$child/comm" 2> /dev/null) in mpirun | mpiexec | orterun) signal=USR1 ;; esac
    catches "$child" "$signal" && break
    kill -0 "$child" 2> /dev/null || return
    sleep 0.1
  done
  told=$signal
  kill -"$signal" "$child" 2> /dev/null
}
for signal in TERM INT HUP USR1; do trap "pass_on $signal" "$signal"; done

# Ends with the child; its exit code is in `code`. mpirun passes on nothing to ranks that it has yet to start, so it is
# told again.
await_child() {
  local again
  while :; do
    interrupted='' again=''
    if [[ "$told" == USR1 ]]; then sleep 2 & again=$!; fi
    wait -n "$child" ${again:+"$again"}
    kill -0 "$child" 2> /dev/null || break
    [[ -z "$interrupted" && -n "$again" ]] && kill -USR1 "$child" 2> /dev/null
    [[ -n "$again" ]] && kill "$again" 2> /dev/null
  done
  [[ -n "$again" ]] && kill "$again" 2> /dev/null
  wait "$child"  # told again by the shell, which keeps it
  code=$?
}

# Ranks that lose a host end themselves; mpirun itself would wait for it for minutes.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-10}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-5}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-4}

failures=0 differences=0 wait_now=$pause
while :; do
  before=$(progress)
  [[ -n "$stopped" ]] && exit 75
  setsid "$@" &  # ^C at a terminal is for this script alone
  child=$!
  [[ -n "$stopped" && -z "$told" ]] && pass_on "$stopped"  # it came between the two lines before
  await_child
  child=''
  # 128 + the signal: it came before anything was opened that would have to be saved.
  if [[ -n "$stopped" ]]; then ((code == 128 + $(kill -l "${told:-$stopped}"))) && exit 75; exit "$code"; fi
  after=$(progress)
  case $code in
    0 | 2 | 3 | 75 | 130) exit "$code" ;;
    4) differences=$((differences + 1)) ;;
    126 | 127) echo "supervise: '$1' cannot be started; exit code $code" >&2; exit "$code" ;;
  esac
  [[ -n "$stopped" ]] && exit 75
  if ((differences == 2)); then
    echo "supervise: weights have differed between ranks twice: take the machine out that the errors name" >&2
    exit 4
  fi
  if [[ "$after" != "$before" ]]; then failures=0 wait_now=$pause; fi
  failures=$((failures + 1))
  if ((failures >= limit)); then
    echo "supervise: $failures failures in a row without a new checkpoint; the last exit code was $code" >&2
    exit "$code"
  fi
  echo "supervise: exit code $code; starting again in $wait_now s (failure $failures of $limit)" >&2
  sleep "$wait_now" & pausing=$!
  [[ -n "$stopped" ]] || wait "$pausing"
  [[ -n "$stopped" ]] && { kill "$pausing" 2> /dev/null; exit 75; }
  wait_now=$((wait_now * 2 > 600 ? 600 : wait_now * 2))
done
