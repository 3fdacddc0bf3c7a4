#!/usr/bin/env bash
# Installs a build into a temporary folder, and builds and runs the programs of examples/consumer against it.
#   scripts/test_install.sh <build folder>
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quietly() { "$@" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }; }

quietly cmake --install "$1" --prefix "$work/prefix"
quietly cmake -S examples/consumer -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix"
quietly cmake --build "$work/build"
model=examples/models/digits.onnx
digits=sheet:examples/digits/digits.png,cell=20x20
lithe=$work/prefix/bin/lithe
"$work/build/operators" "$model"
"$work/build/four_bits" "$model" "$digits,columns=70:80" "$work/four_bits.onnx"
"$lithe" inspect "$model" --json > /dev/null
# The installed tool runs what the program wrote; guessing among ten digits would give 10 %.
"$lithe" eval "$work/four_bits.onnx" --data "$digits,columns=80:100" --json --quiet > "$work/eval.json"
node -e 'const {top1} = JSON.parse(require("fs").readFileSync(process.argv[1])).result;
  console.log(`4 bits: ${(100 * top1).toFixed(1)} % of the digits`); process.exit(top1 > 0.8 ? 0 : 1)' "$work/eval.json"
echo "the installed library and tool work"
