#!/usr/bin/env bash
# Checks the formatting of every source, and runs clang-tidy.
#   scripts/lint.sh [folder...]   clang-tidy on these folders (default: the floors without LibTorch, which are quick)
set -euo pipefail
cd "$(dirname "$0")/.."

sources=$(git ls-files '*.h' '*.cpp')
clang-format --dry-run --Werror $sources
echo "== formatting: clean"
folders=("$@")
(( ${#folders[@]} )) || folders=(lithe/base lithe/graph lithe/models lithe/report)
cmake --preset lint > /dev/null
for folder in "${folders[@]}"; do
  git ls-files "$folder/*.cpp" | xargs -P "$(nproc)" -n 2 clang-tidy --quiet -p build/lint
done
echo "== clang-tidy: clean in ${folders[*]}"
