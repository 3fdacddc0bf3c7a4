#!/usr/bin/env bash
# Checks the formatting of every source and that includes go downwards, and runs clang-tidy.
#   scripts/lint.sh --quick       without clang-tidy
#   scripts/lint.sh               clang-tidy on everything
#   scripts/lint.sh folder...     clang-tidy on these folders
# clang-tidy spends its time in the headers of LibTorch. So it gets the files of a folder together, as one that includes
# them; files that do not go with those before them (equal names in unnamed namespaces) wait for the next one.
set -euo pipefail
cd "$(dirname "$0")/.."

find bench cli cmake examples lithe tests -name '*.h' -print0 -o -name '*.cpp' -print0 | xargs -0 clang-format --dry-run --Werror
echo "== formatting: clean"
scripts/check_floors.sh
if [[ "${1:-}" == "--quick" ]]; then exit 0; fi

cmake --preset lint > /dev/null
cmake --build build/lint --target lithe_engine_generated lithe_front_generated > /dev/null

# How a file is compiled: its command without the compiler, the output and the input.
flags_of() {
  grep -F -- "-c $PWD/$1\"," build/lint/compile_commands.json | head -1 |
    sed -e 's|^ *"command": "[^ ]* ||' -e 's| -o [^ ]* -c [^ ]*$||' -e 's/\\\(.\)/\1/g'
}

# Lints files of equal flags, as few units as they allow.
lint_together() {  # <name of the units> <flags> <file>...
  local unit=build/lint/units/$1.cpp flags=$2 status=0 errors culprits later
  shift 2
  local files=("$@")
  mkdir -p "$(dirname "$unit")"
  while (( ${#files[@]} > 0 )); do
    later=()
    while printf "#include \"$PWD/%s\"\n" "${files[@]}" > "$unit"
          ! errors=$(eval "clang++ $flags -w -ferror-limit=0 -fsyntax-only $unit" 2>&1); do
      culprits=$(sed -n "s|^$PWD/\([^:]*\.cpp\):[0-9]*:[0-9]*: .*error: .*|\1|p" <<< "$errors" | sort -u | grep -vxF "${files[0]}") || true
      if [[ -z "$culprits" ]]; then  # what comes first is wrong by itself
        echo "$errors"
        return 1
      fi
      mapfile -t -O "${#later[@]}" later <<< "$culprits"
      mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -vxF "$culprits")
    done
    eval "clang-tidy --quiet --checks=-bugprone-suspicious-include $unit -- $flags" || status=1
    files=("${later[@]}")
  done
  return $status
}

folders=("$@")
if (( ${#folders[@]} == 0 )); then
  mapfile -t folders < <(find bench cli examples lithe tests -name '*.cpp' -printf '%h\n' | sort -u)
fi
failed=()
for folder in "${folders[@]}"; do
  declare -A groups=()
  for file in "$folder"/*.cpp; do
    flags=$(flags_of "$file") || { echo "$file: not compiled by the preset lint"; exit 1; }
    groups[$flags]+=" $file"
  done
  clean=yes
  for flags in "${!groups[@]}"; do
    # shellcheck disable=SC2086  # the names have no spaces
    lint_together "${folder%/}/unit" "$flags" ${groups[$flags]} || clean=no
  done
  unset groups
  if [[ $clean == yes ]]; then echo "== clang-tidy: clean in $folder"; else failed+=("$folder"); fi
done
if (( ${#failed[@]} > 0 )); then
  echo "== clang-tidy: complaints in ${failed[*]}"
  exit 1
fi
