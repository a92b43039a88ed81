#!/usr/bin/env bash
# Installs what the build needs and is missing (Debian 12 or newer, Ubuntu 24.04; as root or with sudo).
# Usage: scripts/install_dependencies.sh [--tests] [--mpi]      --mpi: Open MPI, for runs of several processes
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config ccache
          libcli11-dev libyaml-cpp-dev nlohmann-json3-dev libfmt-dev libspdlog-dev libssl-dev libxxhash-dev
          libsentencepiece-dev libsimdjson-dev zlib1g-dev libzstd-dev libdnnl-dev
          libprotobuf-dev protobuf-compiler libboost-dev gnuplot-nox)
for option in "$@"; do
  case $option in
    --tests) packages+=(libgtest-dev libgmock-dev libboost-context-dev libomp-dev clang-format clang-tidy
                        libopenmpi-dev openmpi-bin) ;;
    --mpi) packages+=(libopenmpi-dev openmpi-bin) ;;
    *) echo "error: $option: expected --tests or --mpi" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" == *"ok installed"* ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "error: not root, and no sudo; have these installed: ${missing[*]}" >&2; exit 2; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
