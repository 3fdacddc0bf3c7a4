#!/usr/bin/env bash
# From a clone to a quantised, verified model: installs the packages, builds the tool, quantises the bundled digit
# classifier to 8, 4 and 2 bits, checks every file in stock ONNX Runtime, and prints the table.
#   scripts/demo.sh [folder for the results, default build/demo]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/demo}
started=$SECONDS

scripts/install-packages.sh
scripts/install-ort.sh
echo "== build: the command-line tool"
cmake --preset tool > /dev/null
cmake --build --preset tool --parallel "$(nproc)"
lithe=build/tool/bin/lithe

model=examples/models/digits.onnx
sheet=sheet:examples/digits/digits.png,cell=20x20
calibration=$sheet,columns=70:80  # training saw columns 0 to 69
test_set=$sheet,columns=80:100
mkdir -p "$out"

# One number of a JSON object on standard input: the path below "result".
number() { node -e 'const r = JSON.parse(require("fs").readFileSync(0)).result;
  const v = process.argv[1].split(".").reduce((o, k) => o[k], r); process.stdout.write(String(v))' "$1"; }
percent() { awk '{ printf "%.2f %%", 100 * $1 }'; }
kilobytes() { awk "BEGIN { printf \"%.1f KB\", $(stat --format=%s "$1") / 1000 }"; }

rows=()
failed=0
measure() {  # <name> <file>
  local engine stock verdict
  engine=$($lithe eval "$2" --data "$test_set" --json --quiet | number top1 | percent)
  stock=$($lithe eval "$2" --data "$test_set" --backend ort --json --quiet | number top1 | percent)
  verdict=no  # a model that differs in stock ONNX Runtime is shown, and fails the demo at its end
  if $lithe verify "$2" --json --quiet > /dev/null; then verdict=yes; else failed=1; fi
  rows+=("$(printf '%-18s %10s %12s %12s %9s' "$1" "$(kilobytes "$2")" "$engine" "$stock" "$verdict")")
}

echo "== measure: $model"
measure "float32" "$model"
for bits in 8 4 2; do
  for method in minmax mse; do
    name=w${bits}a${bits}-$method
    echo "== quantise: $name"
    report=()
    if [[ $name == w4a4-mse ]]; then report=(--report "$out/report" --sweep 8,6,5,4,3,2); fi
    $lithe quantize "$model" --method "$method" --weight-bits "$bits" --activation-bits "$bits" \
      --calib "$calibration" --data "$test_set" -o "$out/digits.$name.onnx" "${report[@]}" --quiet
    measure "$name" "$out/digits.$name.onnx"
  done
done

echo
printf '%-18s %10s %12s %12s %9s\n' model size "top-1" "in ORT" verified
printf '%s\n' "${rows[@]}"
echo
echo "1,000 digits that neither training nor calibration saw; 'in ORT' is the same file in stock ONNX Runtime."
echo "models: $out/*.onnx"
echo "report: $(pwd)/$out/report/report.html"
echo "took $((SECONDS - started)) seconds, packages and build included"
if ((failed)); then
  echo "not every file agrees with stock ONNX Runtime: see 'no' above" >&2
  exit 1
fi
