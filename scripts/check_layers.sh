#!/usr/bin/env bash
# Fails if a folder of src/ includes one that it must not see. The table below *is* the architecture.
set -euo pipefail
cd "$(dirname "$0")/../${1:-src}"
declare -A may=([core]="" [kernels]="core" [data]="core" [dist]="core" [model]="core kernels" [optim]="core kernels"
                [train]="core kernels data dist model optim")
bad=0
for dir in */; do
  dir=${dir%/}
  [[ -v may[$dir] ]] || { echo "src/$dir is not a layer; see scripts/check_layers.sh"; bad=1; continue; }
  while IFS=: read -r file include; do
    to=${include%%/*}
    [[ $to == "$dir" || " ${may[$dir]} " == *" $to "* ]] || { echo "src/$file may not include $include"; bad=1; }
  done < <(grep -rnoP '^\s*#\s*include\s*"\K[^"]+' "$dir" | sed -E 's/:[0-9]+:/:/')
done
exit $bad
