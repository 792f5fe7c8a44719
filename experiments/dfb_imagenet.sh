#!/usr/bin/env bash
# DFB Fig. 7: 200, 300, 500 and 1,000 classes of ImageNet-1k, energy and energy-DFB; four OOD sets. No number is printed, so ours stand alone.
#
# Cost: ImageNet-1k (150 GB) and the OOD sets; eight fine-tunings of 20,000 steps for each seed. GPU hours: not measured.
# Expectation: both fall with more classes, DFB stays above; classes are drawn by SHA-256, the paper does not say which it took.
#   SEEDS="0 1 2" bash experiments/dfb_imagenet.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets imagenet1k dfb-imagenet
for seed in $SEEDS; do
  for classes in 200 300 500 1000; do
    dfb_runs "imagenet1k:C=$classes,seed=0" "$seed" dfb-imagenet
    [ -n "${SMOKE:-}" ] && break
  done
done
run python -m common.tables "${results[@]}" --out "$out/dfb_imagenet.md"
[ -n "${SMOKE:-}" ] || run python -m dfb.classes "${results[@]}" --out "$out"
