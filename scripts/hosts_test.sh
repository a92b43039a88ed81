#!/usr/bin/env bash
# Several hosts on one machine: network namespaces on a bridge of their own, each with its name, and mpirun that reaches
# them over TCP as it would by ssh. A run of 4 ranks on HOSTS of them must have the weights of one rank; a run that loses
# a host must end in time, and name a rank there. As root; traffic stays on this machine.
# Usage: scripts/hosts_test.sh [HOSTS]      [2]      exit code 77: this machine makes no such hosts, or there is no MPI
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
hosts=${1:-2}
program=$(realpath "${XLSTM_PROGRAM:-$here/build/xlstm}")
for tool in ip mpirun unshare; do command -v "$tool" > /dev/null || { echo "skipped: no $tool"; exit 77; }; done
"$program" --version | grep -q 'no MPI' && { echo "skipped: $program is built without MPI"; exit 77; }
work=$(mktemp -d)
bridge=xl$$
cd "$work"
cleanup() {
  for ((h = 0; h < hosts; h++)); do
    ip netns pids "$bridge-$h" 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    ip netns del "$bridge-$h" 2> /dev/null || true
  done
  ip link del "$bridge" 2> /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# The first host is where mpirun runs.
{ ip netns add "$bridge-0" && ip link add "$bridge" type bridge && ip netns exec "$bridge-0" unshare -u true; } 2> made.log ||
  { echo "skipped: $(tail -n 1 made.log)"; exit 77; }
ip link set "$bridge" up
for ((h = 0; h < hosts; h++)); do
  ((h == 0)) || ip netns add "$bridge-$h"
  ip link add "$bridge.$h" type veth peer name eth0 netns "$bridge-$h"
  ip link set "$bridge.$h" master "$bridge" up
  ip -n "$bridge-$h" addr add "10.77.0.$((h + 1))/24" dev eth0
  ip -n "$bridge-$h" link set eth0 up
  ip -n "$bridge-$h" link set lo up
  echo "10.77.0.$((h + 1)) slots=$(((4 + hosts - 1) / hosts))" >> hostfile
done
# In place of ssh: HOST COMMAND... in that host's namespaces, under its own name.
cat > agent <<AGENT
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
number=\$((\${1##*.} - 1)); shift
exec ip netns exec $bridge-\$number unshare -u bash -c "hostname host\$number; \$*"
AGENT
chmod +x agent

words=(the state of a gate is memory that decays unless the input opens it)
for ((d = 0; d < 200; d++)); do
  line="document $d:"
  for ((i = 0; i < 40; i++)); do line+=" ${words[RANDOM % ${#words[@]}]}"; done
  echo "{\"text\": \"$line\"}"
done > text.jsonl
cat > config.yaml <<YAML
run: {name: hosts, threads: 1}
model: {vocab_size: 300, embedding_dim: 128, num_blocks: 2, mixer: {num_heads: 2, chunk_size: 8}, ffn: {round_up_to: 16}}
data: {train: data}
train: {steps: 10, batch_size: 8, micro_batch_size: 1, context_length: 16}
parallel: {timeout: 30}
YAML
{
  "$program" tokenizer train --vocab-size 300 --out tok.model text.jsonl
  "$program" data build --tokenizer tok.model --out data text.jsonl
  "$program" train --config config.yaml --run one
} > prepare.log 2>&1 || { cat prepare.log; exit 1; }

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Without the keepalives mpirun itself waits for minutes for the host that is gone, when its ranks have ended.
on_all_hosts() {
  ip netns exec "$bridge-0" unshare -u bash -c 'hostname host0; exec "$@"' - \
    mpirun --hostfile hostfile --mca plm_rsh_agent "$work/agent" --mca orte_keep_fqdn_hostnames 1 \
    --mca btl tcp,self --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 --mca btl_vader_backing_directory "$work" \
    --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3 \
    -np 4 --map-by node --wdir "$work" "$program" train --config config.yaml "$@"
}
on_all_hosts --run many > many.log 2>&1 || { cat many.log; exit 1; }

sha() { "$program" checkpoint info "$1" --json 2> /dev/null | sed -E 's/.*"weights_sha256":"([0-9a-f]+)".*/\1/'; }
[[ "$(sha one)" == "$(sha many)" ]] || { echo "FAILED: the weights differ"; exit 1; }
cmp one/checkpoints/step_00000010/manifest.json many/checkpoints/step_00000010/manifest.json
names=$(tr -d '\n ' < many/environment.json | sed -E 's/.*"hosts":\[([^]]*)\].*/\1/')
echo "4 ranks on $hosts hosts ($names): the weights of one rank"

# The last host is cut off: the others end, and name a rank there.
readonly TIMEOUT=20
on_all_hosts --run cut --set train.steps=1000000 --set checkpoint.every=0 --set parallel.timeout=$TIMEOUT > cut.log 2>&1 &
job=$!
until [[ $( (wc -l < cut/metrics.jsonl) 2> /dev/null || echo 0) -gt 20 ]]; do kill -0 $job || { cat cut.log; exit 1; }; sleep 0.1; done
ip -n "$bridge-$((hosts - 1))" link set eth0 down
begin=$SECONDS
wait $job && { echo "FAILED: a run without all its hosts went on"; exit 1; }
((SECONDS - begin <= TIMEOUT + 10)) || { echo "FAILED: the job took $((SECONDS - begin)) s to end"; exit 1; }
grep -E "rank [0-9] \(host$((hosts - 1))\), which is dead, stopped or cut off" cut.log || { cat cut.log; exit 1; }
echo "a host that is cut off ends the job after $((SECONDS - begin)) s"
