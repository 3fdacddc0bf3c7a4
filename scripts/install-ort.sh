#!/usr/bin/env bash
# Installs stock ONNX Runtime (npm's onnxruntime-node) where Lithe looks for it: LITHE_ORT, else
# ~/.local/share/lithe/onnxruntime. It is the judge of `lithe verify` and of the tests; Lithe itself runs without it.
set -euo pipefail

version=1.30.0
folder=${LITHE_ORT:-${XDG_DATA_HOME:-$HOME/.local/share}/lithe/onnxruntime}
if grep -qs "\"version\": \"$version\"" "$folder/node_modules/onnxruntime-node/package.json"; then
  echo "== ONNX Runtime $version: there, in $folder"
  exit 0
fi
echo "== ONNX Runtime $version: installing into $folder"
mkdir -p "$folder"
# Its install scripts only fetch GPU libraries, which are not needed.
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent "onnxruntime-node@$version"
# The package carries the libraries of every platform; the others are only weight.
find "$folder/node_modules/onnxruntime-node/bin" -mindepth 2 -maxdepth 2 -type d ! -name linux -exec rm -rf {} +
