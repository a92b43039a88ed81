#!/usr/bin/env bash
# Makes a bundle of the CUDA build: the program, its tests on a device, and beside them, in lib/, every library that is
# not the C library's, CUDA's or the driver's. It runs from any folder of a machine with the CUDA runtime libraries (not
# older than those of the build) and a driver; gpu_check.sh lies in it, with what it needs.
# Usage: scripts/bundle.sh [OUT]      [build-bundle/xlstm.tar.xz]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build-bundle/xlstm.tar.xz}
export PATH="$PATH:/usr/local/cuda/bin"
scripts/build.sh cuda xlstm device_test
bundle=$(mktemp -d)/xlstm
trap 'rm -rf "$(dirname "$bundle")"' EXIT
mkdir -p "$bundle/lib" "$(dirname "$out")"
cp build-cuda/xlstm build-cuda/device_test "$bundle"
strip "$bundle/xlstm" "$bundle/device_test"
ldd build-cuda/xlstm build-cuda/device_test | awk '$2 == "=>" { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*|libcublas[^/]*|libcuda[^/]*|libnv[^/]*)\.so' |
  xargs -I{} cp -L {} "$bundle/lib"
readelf -d "$bundle/xlstm" | grep -q '[[]$ORIGIN/lib' || { echo "bundle: the program does not look into lib/"; exit 1; }
git rev-parse HEAD > "$bundle/commit"
cp -r scripts/gpu_check.sh configs bench "$bundle"
mkdir "$bundle/docs"
cp docs/*.md "$bundle/docs"
for folder in src/*/; do  # text for its training run
  mkdir -p "$bundle/$folder"
  find "$folder" -maxdepth 1 -name '*.[hc]*' -exec cp -t "$bundle/$folder" {} +
done
tar -C "$(dirname "$bundle")" -cJf "$out" xlstm
echo "$out: $(du -h "$out" | cut -f1), $(ls "$bundle/lib" | wc -l) libraries"
