#!/usr/bin/env bash
# Trains three networks on CIFAR-10 and prints their accuracy on the test set. Stop it (Ctrl-C) and start it again as you
# like: what is finished stays, what was begun goes on from its checkpoint.
#   scripts/train-nets.sh TRAIN.bin TEST.bin [output folder, default build/nets] [further flags of lithe train...]
#   NETS="resnet20 vit_small" scripts/train-nets.sh ...   only these; vit_small learns from resnet20 besides
# On one CPU core an epoch of 22,500 images takes 2 to 6 minutes; with --device cuda all three take minutes together.
set -euo pipefail
if (( $# < 2 )); then
  sed -n '2,6s/^# //p' "$0"
  exit 2
fi
train=$(realpath "$1") test=$(realpath "$2")
folder=$(realpath -m "${3:-build/nets}")
cd "$(dirname "$0")/.."
shift $(( $# < 3 ? $# : 3 ))
lithe=${LITHE:-build/release/bin/lithe}
[[ -x $lithe ]] || lithe=build/tool/bin/lithe  # what scripts/demo.sh builds
nets=${NETS:-resnet20 mobilenet_v2_x0.5 vit_small}
mkdir -p "$folder"

common=(--val-share 0.1 --flip --padded-crop 4 --mean 0.4914,0.4822,0.4465 --std 0.247,0.2435,0.2616)
declare -A recipe=(
  [resnet20]="--epochs 40 --nesterov --warmup 1"
  [mobilenet_v2_x0.5]="--epochs 30 --nesterov --warmup 2 --weight-decay 0.0002"
  [vit_small]="--epochs 15 --optimiser adamw --lr 0.001 --warmup 1 --weight-decay 0.05 --clip-norm 1 --distil 0.7"
)
for net in $nets; do
  file=$folder/${net}_cifar10.onnx teacher=()
  if [[ $net == vit_small ]]; then teacher=(--teacher "$folder/resnet20_cifar10.onnx"); fi
  if [[ ! -f $file ]]; then
    # shellcheck disable=SC2086  # a recipe is several words
    "$lithe" train "$net" --data "$train" "${common[@]}" ${recipe[$net]} "${teacher[@]}" --checkpoints "$folder/$net.checkpoints" --resume \
      --report "$folder/$net.report" -o "$file" "$@"
  fi
  echo "== $net on the test set"
  "$lithe" eval "$file" --data "$test"
done
