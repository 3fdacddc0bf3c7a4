#!/usr/bin/env bash
# Trains what the program carries for diffusion: a noise predictor of 8x8 digits, and two classifiers of them, made apart,
# whose features tell images apart. Stop it (Ctrl-C) and start it again as you like.
#   scripts/train-digits.sh [output folder, default build/digits] [further flags of lithe train...]
# About half an hour of one CPU core.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/digits}
shift $(( $# < 1 ? $# : 1 ))
lithe=${LITHE:-build/release/bin/lithe}
[[ -x $lithe ]] || lithe=build/tool/bin/lithe  # what scripts/demo.sh builds
mkdir -p "$folder"

digits=sheet:examples/digits/digits.png,cell=20x20
common=(--resize 8x8 --interpolation area --threads 1 --half-file --resume)
classifier=(--data "$digits,columns=0:80" --val "$digits,columns=80:100" --batch 64 --padded-crop 1 --lr 0.05 --weight-decay 0.0005)
train() {  # file, network, flags
  local file=$folder/$1.onnx
  [[ -f $file ]] || "$lithe" train "$2" "${common[@]}" --checkpoints "$folder/$1.checkpoints" -o "$file" "${@:3}"
}
train digits_features_a resnet20_x0.5 "${classifier[@]}" --epochs 15 --seed 1 "$@"
train digits_features_b resnet32_x0.25 "${classifier[@]}" --epochs 20 --seed 2 "$@"
train digits_unet unet --data "$digits" --val-share 0.1 --batch 128 --optimiser adamw --lr 0.001 --schedule cosine --ema 0.999 --epochs 120 "$@"
