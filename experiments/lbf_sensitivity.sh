#!/usr/bin/env bash
# Figure 6 of the LBF paper: AUROC against delta, mu and lambda, one at a time, the others at their defaults. Drawn, never used to choose.
#
#   bash experiments/lbf_sensitivity.sh            generated benchmark: 30 runs, about 35 minutes a seed on a quiet CPU core, 60 MB (estimated)
#   bash experiments/lbf_sensitivity.sh cifar10    CIFAR-10, reduced (ResNet-18): 30 runs, about a day a seed on one core, 1.5 GB (estimated)
#
# Expectation (paper): little changes around the defaults; lambda = 0 is the control. SEEDS, OUT, SMOKE=1, DRY=1: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

set=${1:-shapes}
finetune=() score=(--scorers energy react)
delta=(.001 .003 .005 .007 .01 .012 .02 .05 .1 .5 1.01) mu=(0 .5 1 1.5 2 2.5 3 3.5 4 6) lam=(0 .1 .25 .5 .75 1.25 1.5 2 4)
case $set in
  shapes) pretrain=(shapes) ;;
  cifar10)
    need_sets cifar10/train
    pretrain=(cifar10-quick --limit 25000) finetune=(--epochs 6)
    score+=(--ood $(python -m common.data found any-cifar10)) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
if [ -n "${SMOKE:-}" ]; then
  pretrain=(shapes --limit 128 --epochs 1 --batch-size 32) finetune=(--epochs 1 --batch-size 32) score=(--scorers energy react --ood shapes-noise --limit 16)
  delta=(.01 1.01) mu=(0 2) lam=(0)
fi
out=${OUT:-runs/lbf-sensitivity-$set${SMOKE:+-smoke}}
results=()

variant() { # NAME=VALUE, or default
  local at=$out/seed-$seed/$1 flag=()
  [ "$1" = default ] || flag=("--${1%=*}" "${1#*=}")
  run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} ${flag[@]+"${flag[@]}"} --seed "$seed" --out "$at"
  run python -m common.evaluate "$at/checkpoint.pt" --method "$1" "${score[@]}" --out "$at/results.csv"
  results+=("$at/results.csv")
}

for seed in $SEEDS; do
  start=$out/seed-$seed/pretrained/checkpoint.pt
  run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$out/seed-$seed/pretrained"
  variant default
  for value in "${delta[@]}"; do variant "delta=$value"; done
  for value in "${mu[@]}"; do variant "mu=$value"; done
  for value in "${lam[@]}"; do variant "lam=$value"; done
done

run python -m lbf.sensitivity "${results[@]}" --out "$out/sensitivity"
