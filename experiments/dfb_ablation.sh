#!/usr/bin/env bash
# DFB's choices one at a time: how masks are made, how the dense network is trained, how the scores are joined. Mask quality where the truth is known.
#
#   bash experiments/dfb_ablation.sh            generated benchmark: 29 networks, about 1.7 hours a seed on a quiet CPU core, 150 MB (estimated)
#   bash experiments/dfb_ablation.sh cifar10    CIFAR-10, reduced (ResNet-18): 28 networks, about a day a seed on one core, 2 GB (estimated)
#   MASKS_ONLY=1 bash experiments/dfb_ablation.sh    masks and their quality, no dense training: about half an hour a seed
#
# Expectation: none is given by the paper but T's (its Fig. 6). Nothing here may be used to choose: the OOD sets are those reported.
# A line of the tables is a variant: S_h alone, every sign, S_b alone. SEEDS="0 1 2", OUT=DIR, SMOKE=1, DRY=1: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

set=${1:-shapes}
train=() test=(--scorers msp energy vim) against=()
# name, flags of dfb.masks | flags of dfb.finetune
variants="
default                |
theta-0.3              --theta 0.3 |
theta-0.4              --theta 0.4 |
theta-0.6              --theta 0.6 |
theta-0.7              --theta 0.7 |
scale-1-no-mirror      --preset single-scale |
no-mirror              --no-cam-flip |
class-predicted        --cam-class predicted |
bias                   --cam-bias |
no-relu                --no-cam-relu |
minmax                 --cam-norm minmax |
normalise-first        --cam-order normalise-first |
blur                   --cam-blur 1.5 |
released-code          --preset released --cam-blur 1.5 |
half-stride-shift      --cam-shift half-stride |
masks-stride-4         --output-stride 4 |
stride-4-and-shift     --output-stride 4 --cam-shift half-stride |
grabcut                --refine grabcut |
grabcut-and-shift      --refine grabcut --cam-shift half-stride |
stride-4               | --output-stride 4
align-corners          | --align-corners
start-scratch          | --stage2-init scratch --head-start zeros
head-zeros             | --head-start zeros
loss-per-image         | --loss-reduction images
empty-dropped          | --empty-mask drop
empty-whole-image      | --empty-mask whole_image
no-scaling             | --scale-low 1 --scale-high 1
all-foreground         | --pixel-labels foreground
"
# name, flags of dfb.evaluate on the default network
scores="
T=1             --temperature 1
T=1.5           --temperature 1.5
T=2             --temperature 2
T=3             --temperature 3
T=3.5           --temperature 3.5
T=4             --temperature 4
T=4.5           --temperature 4.5
T=5             --temperature 5
T-in-softmax    --softmax-T log_over_T
T-divides-both  --logit-combine both_over_T
T-nowhere       --logit-combine none
log-softplus    --log-guard softplus
log-sigmoid     --log-guard sigmoid
all-logits      --fg-logits all --scorers msp energy
all-vim-rows    --vim-head all --scorers vim
native          --protocol native
via32           --protocol via32
"
case $set in
  shapes) pretrain=(shapes) against=(--score-against truth) variants+="true-masks             | --pixel-labels truth" ;;
  cifar10)
    need_sets cifar10/train
    pretrain=(cifar10-quick --limit 25000) train=(--preset quick)
    test+=(--ood $(python -m common.data found any-cifar10)) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
if [ -n "${SMOKE:-}" ]; then # several switches at a time, each once
  pretrain=(shapes --limit 64 --epochs 1 --batch-size 32) train=(--preset quick --epochs 1 --batch-size 32 --precision float32) against=(--score-against truth)
  test=(--scorers msp energy vim:D=8 --ood shapes-noise --limit 16)
  scores="
softmax-switches  --temperature 5 --softmax-T log_over_T --log-guard softplus --protocol native
logit-switches    --logit-combine both_over_T --vim-head all --log-guard sigmoid --protocol via32"
  variants="
default                |
released-code          --preset released --cam-blur 1.5 --cam-order normalise-first --no-cam-relu | --align-corners --loss-reduction images --empty-mask drop
fine                   --preset single-scale --output-stride 4 --cam-shift half-stride --theta 0.3 --refine grabcut | --output-stride 4 --head-start zeros --empty-mask whole_image
start-scratch          | --stage2-init scratch --head-start zeros --scale-low 1 --scale-high 1 --pixel-labels foreground
true-masks             | --pixel-labels truth"
fi
out=${OUT:-runs/dfb-ablation-$set${SMOKE:+-smoke}}
results=() manifests=()

# network NAME "flags of dfb.masks" "flags of dfb.finetune"
network() {
  local at=$here/$1 masks=$here/default/masks # masks beside the run: a run that is moved aside takes its folder along
  if [ "$1" = default ] || [ -n "$2" ]; then
    masks=$at/masks
    run python -m dfb.masks "$start" --out "$masks" ${against[@]+"${against[@]}"} $2
    manifests+=("$masks/manifest.json")
  fi
  [ -z "${MASKS_ONLY:-}" ] || return 0
  run python -m dfb.finetune "$start" --masks "$masks" ${train[@]+"${train[@]}"} $3 --seed "$seed" --out "$at/dfb"
  score "$1" "$at/results.csv"
}

# score NAME OUT flags...: the network NAME scored with other flags of dfb.evaluate; features are taken from the cache
score() {
  local network=$here/$1/dfb/checkpoint.pt csv=$2
  shift 2
  run python -m dfb.evaluate "$network" "${test[@]}" "$@" --cache "$out/features" --out "$csv"
  results+=("$csv")
}

for seed in $SEEDS; do
  here=$out/seed-$seed
  start=$here/pretrained/checkpoint.pt
  run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$here/pretrained"
  while IFS='|' read -r -u 3 name_and_masks dense; do
    read -r name masks <<< "$name_and_masks"
    [ -z "$name" ] || network "$name" "$masks" "$dense"
  done 3<<< "$variants"
  [ -z "${MASKS_ONLY:-}" ] || continue
  while read -r -u 3 name flags; do
    [ -z "$name" ] || score default "$here/default/$name.csv" $flags
  done 3<<< "$scores"
done

run python -m dfb.ablation "${manifests[@]}" --out "$out/masks.md"
[ -n "${MASKS_ONLY:-}" ] || run python -m dfb.ablation "${results[@]}" --out "$out/table.md"
# ID accuracy and the background score against the masks' IoU, where the truth is known
[ -n "${MASKS_ONLY:-}" ] || [ ${#against[@]} -eq 0 ] || run python -m dfb.quality "${results[@]}" --masks "${manifests[@]}" --out "$out"
