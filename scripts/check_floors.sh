#!/usr/bin/env bash
# Fails when a file includes a header of a floor that its own may not see, or LibTorch where it is not wanted.
#   scripts/check_floors.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The floors of the house, lowest first: what each stands on (and so what those stand on). Methods do not see one
# another. docs/design.md tells what is in them.
floors="
base      :
graph     : base
kernels   : graph
runtime   : kernels
models    : graph
video     : kernels
points    : kernels
ops       : graph kernels
engine    : ops
data      : engine
metrics   : data
train     : metrics models
quantize  : metrics models train
sparsify  : metrics models train
multibit  : metrics models train
tokens    : metrics models train
diffusion : metrics models train
stylize   : diffusion video
grounding : metrics models train points
report    : base
cli       : quantize sparsify multibit tokens diffusion video stylize points grounding report runtime
"
without_torch="base graph kernels runtime models video points report"

find lithe cli -name '*.h' -o -name '*.cpp' | xargs grep -HnE '^#include [<"]' |
  awk -v floors="$floors" -v without_torch="$without_torch" '
    function see(folder, seen,   parts, count, i) {
      if ((folder, seen) in sees) return
      sees[folder, seen] = 1
      count = split(stands_on[seen], parts, " ")
      for (i = 1; i <= count; ++i) see(folder, parts[i])
    }
    BEGIN {
      count = split(floors, lines, "\n")
      for (i = 1; i <= count; ++i)
        if (split(lines[i], part, ":") == 2) {
          gsub(/ /, "", part[1])
          stands_on[part[1]] = part[2]
        }
      for (folder in stands_on) see(folder, folder)
      count = split(without_torch, names, " ")
      for (i = 1; i <= count; ++i) no_torch[names[i]] = 1
    }
    {
      split($0, at, ":")
      split(at[1], path, "/")
      folder = path[1] == "lithe" ? path[2] : path[1]
      match($0, /[<"][^>"]*/)
      header = substr($0, RSTART + 1, RLENGTH - 1)
      where = at[1] ":" at[2]
      ++read
      if (!(folder in stands_on)) {
        print where ": the folder " folder " has no floor; give it one in scripts/check_floors.sh"
        ++bad
      } else if (header ~ /^(ATen|torch|c10)\// && folder in no_torch) {
        print where ": " folder " does without LibTorch, but " header " is included"
        ++bad
      } else if (header ~ /^(lithe|cli)\//) {
        split(header, path, "/")
        wanted = path[1] == "lithe" ? path[2] : path[1]
        if (!((folder, wanted) in sees)) {
          print where ": " folder " may not see " wanted " (" header ")"
          ++bad
        }
      }
    }
    END {
      if (read == 0) print "no includes were found"
      if (bad || read == 0) exit 1
      print "== floors: " read " includes, all downwards"
    }'
