#!/usr/bin/env bash
# Installs what is needed, builds everything and runs the tests. Safe to run again.
#   scripts/test.sh           all tests
#   scripts/test.sh --quick   without the sanitizer and fuzzing runs
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh --tests
scripts/install-ort.sh
scripts/lint.sh --quick
echo "== build"
cmake --preset release -DLITHE_BUILD_EXAMPLES=ON -DLITHE_BUILD_BENCH=ON > /dev/null
cmake --build --preset release --parallel "$(nproc)"
echo "== tests"
LITHE_REQUIRE_ORT=1 ctest --preset release
echo "== the sparsity bench runs (half a minute)"
results=$(mktemp -d)
build/release/bin/bench/sparsity_table --tier smoke --results "$results/smoke.jsonl" > "$results/log" || { cat "$results/log"; exit 1; }
echo "== the bench of reconstruction runs (a minute or two)"
build/release/bin/bench/ptq_table --tier smoke --results "$results/ptq.jsonl" > "$results/log" || { cat "$results/log"; exit 1; }
echo "== the bench of several bit-widths runs (a minute)"
build/release/bin/bench/multibit_table --tier smoke --results "$results/multibit.jsonl" > "$results/log" || { cat "$results/log"; exit 1; }
echo "== the bench of fewer tokens runs (half a minute)"
build/release/bin/bench/tokens_table --tier smoke --results "$results/tokens.jsonl" > "$results/log" || { cat "$results/log"; exit 1; }
echo "== the bench of sampling schedules runs (a minute)"
build/release/bin/bench/diffusion_table --tier smoke --results "$results/diffusion.jsonl" > "$results/log" || { cat "$results/log"; exit 1; }
rm -r "$results"
echo "== installing and building a program against the installed library"
scripts/test_install.sh build/release
if [[ "${1:-}" != "--quick" ]]; then
  scripts/sanitize.sh
fi
echo "== all tests passed"
