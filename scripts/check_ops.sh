#!/bin/sh
# Every op of src/kernels/ops.h is called by a test of tests/kernels: an op without a case does not exist.
set -eu
cd "$(dirname "$0")/.."

missing=0
for op in $(sed -n 's/^XL_OP(\([a-z0-9_]*\),.*/\1/p' src/kernels/ops.h); do
  if ! sed 's://.*::' tests/kernels/* | grep -q "ops::$op("; then
    echo "check_ops: tests/kernels has no case that calls ops::$op" >&2
    missing=1
  fi
done
exit $missing
