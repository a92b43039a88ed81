#!/usr/bin/env bash
# Builds into build/ (or build-PRESET/). Usage: scripts/build.sh [PRESET [ninja targets...]]   presets: CMakePresets.json
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
[[ $# -gt 0 ]] && shift
export CCACHE_NOHASHDIR=1
cmake --preset "$preset" >/tmp/xlstm_configure_$$.log 2>&1 || { cat /tmp/xlstm_configure_$$.log >&2; exit 1; }
grep '^-- no ' /tmp/xlstm_configure_$$.log || true  # what is left out
rm -f /tmp/xlstm_configure_$$.log
cmake --build --preset "$preset" ${1:+--target "$@"}
