#!/usr/bin/env bash
# What LBF's gain comes from: the control, who selects, what is penalised, norm, reduction, ReAct, length of pre-training.
#
#   bash experiments/lbf_ablation.sh            generated benchmark: 20 runs, about half an hour a seed on a quiet CPU core, 40 MB (estimated)
#   bash experiments/lbf_ablation.sh cifar10    CIFAR-10, reduced (ResNet-18): 19 runs, about 16 hours a seed on one core, 1 GB (estimated)
#
# Expectation, if the paper's reason is right: lbf beats control, and locations-random, -all and -foreground do not. Each line of the table is a
# variant (control-after-6: pre-trained for 6 epochs); energy is without ReAct, react with it. SEEDS="0 1 2", OUT=DIR, SMOKE=1, DRY=1: docs/tables.md. Run again = go on.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

set=${1:-shapes}
finetune=() test=(--scorers energy react) lengths=(3 6 24)
case $set in
  shapes) pretrain=(shapes) truth=(locations-truth) ;;
  cifar10)
    need_sets cifar10/train
    pretrain=(cifar10-quick --limit 25000) finetune=(--epochs 6) truth=() lengths=(2 4 16)
    test+=(--ood $(python -m common.data found isun cifar100 svhn lsun_crop lsun_resize textures places365 textures-10 miniplaces-2500)) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
if [ -n "${SMOKE:-}" ]; then
  pretrain=(shapes --limit 128 --epochs 1 --batch-size 32) finetune=(--epochs 1 --batch-size 32) truth=(locations-truth) lengths=(2)
  test=(--scorers energy react --ood shapes-noise --limit 16)
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

for seed in $SEEDS; do
  start=$out/seed-$seed/pretrained/checkpoint.pt
  run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$out/seed-$seed/pretrained"
  score pre-trained "$out/seed-$seed/pretrained"
  variant control "$start" --lam 0
  variant lbf "$start"
  variant selector-frozen "$start" --selector frozen
  for locations in locations-random locations-all locations-foreground locations-cam ${truth[@]+"${truth[@]}"}; do
    variant "$locations" "$start" --locations "${locations#locations-}"
  done
  variant norm-l1 "$start" --norm l1
  variant reduction-image "$start" --reduction image
  for epochs in "${lengths[@]}"; do
    longer=$out/seed-$seed/pretrained-$epochs/checkpoint.pt
    run python -m common.pretrain "${pretrain[@]}" --epochs "$epochs" --seed "$seed" --out "$out/seed-$seed/pretrained-$epochs"
    variant "control-after-$epochs" "$longer" --lam 0
    variant "lbf-after-$epochs" "$longer"
  done
done

run python -m common.tables "${results[@]}" --out "$out/table.md"
if [ ${#truth[@]} -gt 0 ]; then # where the truth is known: what each network's Eq. 5 selects
  run python -m lbf.selection "${networks[@]}" ${SMOKE:+--limit 32} --out "$out/selection.csv"
fi
