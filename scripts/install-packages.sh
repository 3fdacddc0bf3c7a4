#!/usr/bin/env bash
# Installs the Debian 12 packages that Lithe needs and that are not there yet.
#   scripts/install-packages.sh           what the command-line tool needs
#   scripts/install-packages.sh --tests   also what the tests need
set -euo pipefail

packages=(
  g++ cmake ninja-build mold
  libtorch-dev libopenblas0-pthread         # tensors, and the BLAS that makes them fast
  libgloo-dev                               # training on several processes
  libonnx-dev libprotobuf-dev protobuf-compiler
  libhwy-dev                                # vector kernels for every instruction set, chosen at run time
  libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev libopencv-video-dev
  pkg-config libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libavfilter-dev # videos
  libcli11-dev nlohmann-json3-dev libfmt-dev zlib1g-dev libzip-dev
  gnuplot-nox                               # the plots of reports
)
if [[ "${1:-}" == "--tests" ]]; then
  packages+=(libgtest-dev libgmock-dev libonnx-testdata clang libclang-rt-14-dev clang-format clang-tidy)
fi
command -v node > /dev/null || packages+=(nodejs)
command -v npm > /dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
done
if (( ${#missing[@]} == 0 )); then
  echo "== packages: all there"
  exit 0
fi
echo "== packages: installing ${missing[*]}"
as_root=()
if (( EUID != 0 )); then as_root=(sudo); fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
