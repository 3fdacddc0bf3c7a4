#!/usr/bin/env bash
# Runs the tests of the floors without LibTorch under the address and undefined-behaviour sanitizers, then fuzzes the
# readers for a bounded time.
#   scripts/sanitize.sh [seconds of fuzzing a reader, default 20]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}

echo "== sanitizers"
cmake --preset sanitize > /dev/null
cmake --build --preset sanitize --parallel "$(nproc)" --target test_base test_graph test_kernels test_models test_points test_report
ctest --preset sanitize -R '^(base|graph|kernels|models|points|report)$'

echo "== fuzzing the readers, $seconds s each"
cmake --preset fuzz > /dev/null
cmake --build --preset fuzz --parallel "$(nproc)"
for target in build/fuzz/bin/fuzz_*; do
  corpus=build/fuzz/corpus/$(basename "$target")
  mkdir -p "$corpus"
  seeds=tests/fuzz/seeds/$(basename "$target" | sed 's/^fuzz_//')
  if [[ -d $seeds ]]; then cp "$seeds"/* "$corpus"; fi
  if [[ $target == *fuzz_onnx || $target == *fuzz_analysis ]]; then  # so are the ONNX project's own small models
    for model in /usr/share/libonnx-testdata/data/node/*/model.onnx; do
      cp "$model" "$corpus/$(basename "$(dirname "$model")")"
    done
    find "$corpus" -type f -size +4k -delete
  fi
  "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    "$corpus" > build/fuzz/log 2>&1 || { tail -40 build/fuzz/log; exit 1; }
  grep -E 'stat::number_of_executed_units' build/fuzz/log | sed "s|^|$(basename "$target"): |"
done
