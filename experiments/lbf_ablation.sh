#!/usr/bin/env bash
# What LBF's gain comes from: the control, who selects, what is penalised and how strongly, batch norm, learning rate, the data's correlation of object and background, length of pre-training.
#
#   bash experiments/lbf_ablation.sh            generated benchmark: 45 runs, 2.5 CPU minutes for one of 12 epochs (measured on a busy core): about 2 hours a seed, 100 MB (estimated)
#   bash experiments/lbf_ablation.sh cifar10    CIFAR-10, reduced (ResNet-18): 33 runs, about 27 hours a seed on one core, 2 GB (estimated)
#
# Expectation, if the paper's reason is right: lbf beats control; eq5-truth and truth (the true background) do too, and random, all, foreground and eq5-object (what Eq. 5
# selects of the object) do not. low-norm, as many locations of lowest norm, is an idea of this suite. Each line of the table is a variant; control-NAME is the control
# of NAME (after-6: pre-trained for 6 epochs); energy is without ReAct, react with it. SEEDS="0 1 2", OUT=DIR, SMOKE=1, DRY=1: docs/tables.md. Run again = go on.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

set=${1:-shapes}
finetune=() test=(--scorers msp energy react) truth=() dial=() against=() lengths=(6 12)
case $set in
  shapes) pretrain=(shapes) truth=(truth eq5-truth eq5-object) dial=(0 .3 .6) against=(--score-against truth) ;;
  cifar10)
    need_sets cifar10/train
    pretrain=(cifar10-quick --limit 25000) finetune=(--epochs 6) lengths=(4 16)
    test+=(--ood $(python -m common.data found any-cifar10)) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
if [ -n "${SMOKE:-}" ]; then
  pretrain=(shapes --limit 128 --epochs 1 --batch-size 32) finetune=(--epochs 1 --batch-size 32) truth=(truth eq5-truth eq5-object) lengths=(2) dial=(.3)
  test=(--scorers msp energy react --ood shapes-noise --limit 16)
fi
out=${OUT:-runs/lbf-ablation-$set${SMOKE:+-smoke}}
results=() networks=()

# variant NAME START flags...: fine-tune START and score it under that name.
variant() {
  local name=$1 start=$2 at=$out/seed-$seed/$1
  shift 2
  run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} "$@" --seed "$seed" --out "$at"
  score "$name" "$at"
}
score() { # NAME RUN: the run's network scored under that name
  run python -m common.evaluate "$2/checkpoint.pt" --method "$1" "${test[@]}" --out "$2/results.csv"
  results+=("$2/results.csv") networks+=("$2/checkpoint.pt")
}

both() { # NAME START flags...: LBF under these flags, and its control
  variant "$@"
  variant "control-$1" "${@:2}" --lam 0
}
first() { # NAME flags...: pre-train, and say where
  local at=$out/seed-$seed/$1
  shift
  run python -m common.pretrain "${pretrain[@]}" "$@" --seed "$seed" --out "$at"
  start=$at/checkpoint.pt
}

for seed in $SEEDS; do
  first pretrained
  score pre-trained "$out/seed-$seed/pretrained"
  variant control "$start" --lam 0
  variant lbf "$start"
  for locations in ${truth[@]+"${truth[@]}"} low-norm random all foreground cam; do
    variant "$locations" "$start" --locations "$locations"
  done
  for refine in none grabcut; do
    masks=$out/seed-$seed/masks-$refine
    run python -m dfb.masks "$start" --refine "$refine" ${against[@]+"${against[@]}"} --out "$masks"
    variant "masks-$refine" "$start" --locations masks --masks "$masks"
  done
  variant selector-frozen "$start" --selector frozen
  both bn-frozen "$start" --bn frozen
  for mu in 1 3 6; do variant "mu-$mu" "$start" --mu "$mu"; done
  for lam in .1 .3 1; do variant "lambda-$lam" "$start" --lam "$lam"; done
  for lr in .1 .05 .01; do both "lr-$lr" "$start" --lr "$lr"; done
  variant norm-l1 "$start" --norm l1
  variant reduction-image "$start" --reduction image
  for correlation in ${dial[@]+"${dial[@]}"}; do
    first "pretrained-correlation-$correlation" --id "shapes:correlation=$correlation"
    both "correlation-$correlation" "$start"
  done
  for epochs in "${lengths[@]}"; do
    first "pretrained-$epochs" --epochs "$epochs"
    both "after-$epochs" "$start"
  done
done

run python -m common.tables "${results[@]}" --paired 1000 --out "$out/table.md"
run python -m lbf.ablation "${results[@]}" --out "$out"
if [ ${#truth[@]} -gt 0 ]; then # where the truth is known: what each network's Eq. 5 selects
  run python -m lbf.selection "${networks[@]}" ${SMOKE:+--limit 32} --deltas .125 .1 .05 .02 .01 .001 --out "$out/selection.csv"
  run python -m lbf.selection "$out/seed-${SEEDS%% *}"/{pretrained,control,lbf}/checkpoint.pt ${SMOKE:+--limit 32} --deltas .125 .1 .05 .02 .01 .001 --out "$out/delta.csv" --figure "$out/delta"
fi
