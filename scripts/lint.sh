#!/usr/bin/env bash
# Checks the formatting of every source and that includes go downwards, and runs clang-tidy.
#   scripts/lint.sh --quick       without clang-tidy
#   scripts/lint.sh               clang-tidy on everything (a minute for each file that includes LibTorch)
#   scripts/lint.sh folder...     clang-tidy on these folders
set -euo pipefail
cd "$(dirname "$0")/.."

find bench cli cmake examples lithe tests -name '*.h' -print0 -o -name '*.cpp' -print0 | xargs -0 clang-format --dry-run --Werror
echo "== formatting: clean"
scripts/check_floors.sh
if [[ "${1:-}" == "--quick" ]]; then exit 0; fi

cmake --preset lint > /dev/null
cmake --build build/lint --target lithe_engine_generated > /dev/null
folders=("$@")
if (( ${#folders[@]} == 0 )); then
  mapfile -t folders < <(find bench cli examples lithe tests -name '*.cpp' -printf '%h\n' | sort -u)
fi
for folder in "${folders[@]}"; do
  find "$folder" -maxdepth 1 -name '*.cpp' | sort | xargs -P "${LITHE_LINT_JOBS:-$(nproc)}" -n 1 clang-tidy --quiet -p build/lint
  echo "== clang-tidy: clean in $folder"
done
