#!/usr/bin/env bash
# LBF and DFB together, which neither paper has: DFB on an LBF-tuned network; LBF's penalty on DFB's masks; S_b on LBF's features as they are.
#
#   bash experiments/combined.sh            generated benchmark: 9 runs, about 25 CPU minutes a seed, 60 MB (estimated)
#   bash experiments/combined.sh cifar10    CIFAR-10, reduced (ResNet-18): 9 runs, about 6 hours a seed on one core, 1 GB (estimated)
#
# No expectation: nobody has printed a number. First table: networks scored by themselves. Second: each with a background class, S_h alone, every sign,
# S_b alone. "head-only" leaves the body as it is and trains the head alone. SEEDS="0 1 2", OUT=DIR, SMOKE=1, DRY=1: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

set=${1:-shapes}
finetune=() dense=() ood=() limit=() against=()
case $set in
  shapes) pretrain=(shapes) against=(--score-against truth) ;;
  cifar10)
    need_sets cifar10/train
    pretrain=(cifar10-quick --limit 25000) finetune=(--epochs 6) dense=(--preset quick)
    ood=(--ood $(python -m common.data found any-cifar10)) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
if [ -n "${SMOKE:-}" ]; then
  pretrain=(shapes --limit 64 --epochs 1 --batch-size 32) finetune=(--epochs 1 --batch-size 32) dense=(--epochs 1 --batch-size 32)
  ood=(--ood shapes-noise) limit=(--limit 16)
fi
out=${OUT:-runs/combined-$set${SMOKE:+-smoke}}
plain=() joint=()

alone() { # NAME: the network scored by itself
  run python -m common.evaluate "$here/$1/checkpoint.pt" --method "$1" --scorers energy react ${ood[@]+"${ood[@]}"} ${limit[@]+"${limit[@]}"} \
    --out "$here/$1/results.csv"
  plain+=("$here/$1/results.csv")
}
tuned() { # NAME flags...: LBF's fine-tuning of the pre-trained network
  local name=$1
  shift
  run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} "$@" --seed "$seed" --out "$here/$name"
  alone "$name"
}
masked() { # NAME: pseudo-masks by that network
  run python -m dfb.masks "$here/$1/checkpoint.pt" --out "$here/masks-$1" ${against[@]+"${against[@]}"}
}
background() { # NAME FROM flags...: a background class for the network FROM, on its own masks
  local name=$1 from=$here/$2/checkpoint.pt masks=$here/masks-$2
  shift 2
  run python -m dfb.finetune "$from" --masks "$masks" ${dense[@]+"${dense[@]}"} --stage2-init stage1 --head-start stage1 "$@" --seed "$seed" --out "$here/$name"
  run python -m dfb.evaluate "$here/$name/checkpoint.pt" --scorers energy react ${ood[@]+"${ood[@]}"} ${limit[@]+"${limit[@]}"} \
    --out "$here/$name/results.csv"
  joint+=("$here/$name/results.csv")
}

for seed in $SEEDS; do
  here=$out/seed-$seed
  start=$here/pretrained/checkpoint.pt
  run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$here/pretrained"
  alone pretrained
  tuned control --lam 0
  tuned lbf
  masked pretrained
  masked lbf
  tuned lbf-on-masks --locations masks --masks "$here/masks-pretrained"
  background dfb pretrained
  background dfb-after-lbf lbf
  background head-only pretrained --body frozen --bn frozen
  background head-only-after-lbf lbf --body frozen --bn frozen
done

run python -m common.tables "${plain[@]}" --out "$out/plain.md"
run python -m dfb.ablation "${joint[@]}" --out "$out/joint.md"
