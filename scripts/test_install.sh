#!/usr/bin/env bash
# Installs a build into a temporary folder and builds and runs examples/consumer against it.
#   scripts/test_install.sh <build folder>
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$1" --prefix "$work/prefix" > "$work/log" || { cat "$work/log"; exit 1; }
cmake -S examples/consumer -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" \
  > "$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
"$work/build/consumer" examples/models/digits.onnx
"$work/prefix/bin/lithe" inspect examples/models/digits.onnx --json > /dev/null
"$work/prefix/bin/lithe" eval --help > /dev/null
echo "the installed library and tool work"
