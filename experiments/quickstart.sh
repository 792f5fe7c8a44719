#!/usr/bin/env bash
# From nothing to tables: pre-train; LBF's fine-tuning, the same without the penalty (control), and the same on the true background; then, from the same
# pre-trained network, DFB: pseudo-masks, dense training, joint score, and its control, dense training without any background. Scores, figures, one page.
#
#   bash experiments/quickstart.sh            the generated benchmark; no data, no network beyond pip; minutes on two CPU cores
#   bash experiments/quickstart.sh cifar10    LBF, reduced, on CIFAR-10 from $OOD_DATA (default data/); about two hours on two CPU cores
#   SMOKE=1 bash experiments/quickstart.sh    a few images, seconds: does everything run?
#
# Run again = go on where it stopped. SEED=1 for another seed, OUT=DIR for another folder, DRY=1 prints the commands. The last one makes a page to be opened
# in a browser; its figures, results, recipes, logs and checkpoints lie beside it.
[ -n "${script:-}" ] || . "$(dirname "${BASH_SOURCE[0]}")/environment.sh" # there already where another script goes on from here

set=${1:-shapes}
seed=${SEED:-0}
pair=""
case $set in
  shapes) # small steps: two commands side by side on a thread each are faster than one on two, and digits do not depend on the number of cores
    export OMP_NUM_THREADS=1
    pair=1 pretrain=(shapes) finetune=() ood=() ;;
  cifar10)
    pretrain=(cifar10-quick --limit 25000)
    finetune=(--epochs 6)
    ood=(--ood $(python -m common.data found any-cifar10) cifar10:encode=jpeg75 cifar10:encode=webp90) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
out=${OUT:-runs/quickstart-$set${SMOKE:+-smoke}}/seed-$seed
test=() gallery=(--limit 500)
if [ -n "${SMOKE:-}" ]; then
  pretrain+=(--limit 256 --epochs 1) finetune=(--epochs 1) test=(--limit 64) gallery=(--limit 64)
fi

start=$out/pretrained/checkpoint.pt
tune() { run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} --seed "$seed" "$@"; }
dense() { run python -m dfb.finetune "$start" ${finetune[@]+"${finetune[@]}"} --seed "$seed" "$@"; }
score() { # NAME flags...
  run python -m common.evaluate "$out/$1/checkpoint.pt" ${ood[@]+"${ood[@]}"} --scorers msp energy react "${@:2}" ${test[@]+"${test[@]}"} \
    --cache "$out/features" --out "$out/$1/results.csv"
}
score_dense() { # NAME flags...
  run python -m dfb.evaluate "$out/$1/checkpoint.pt" --vanilla "$start" --scorers msp energy vim "${@:2}" ${test[@]+"${test[@]}"} \
    --cache "$out/features" --out "$out/$1/results.csv"
}

run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$out/pretrained"
beside=$pair tune --lam 0 --quiet --out "$out/control"
tune --out "$out/lbf"
lbf=(pretrained control lbf) runs=("$out"/{pretrained,control,lbf})
if [ "$set" = shapes ]; then # the only set whose truth is known
  lbf+=(lbf-truth) runs+=("$out"/{lbf-truth,dfb,dfb-control})
  beside=1 dense --pixel-labels foreground --quiet --out "$out/dfb-control"
  run python -m dfb.masks "$start" --score-against truth --out "$out/masks"
  beside=1 tune --locations truth --quiet --out "$out/lbf-truth"
  dense --masks "$out/masks" --out "$out/dfb"
fi
for name in pretrained control lbf; do score "$name"; done
if [ "$set" = shapes ]; then
  beside=1 score lbf-truth --method "LBF, true background" --quiet
  score_dense dfb
  beside=1 score_dense dfb-control --method "DFB control" --quiet
fi
run python -m lbf.figures "${lbf[@]/#/$out/}" --out "$out/figures" ${test[@]+"${test[@]}"}
if [ "$set" = shapes ]; then
  beside=1 run python -m dfb.figures "$out/dfb/checkpoint.pt" --vanilla "$start" --masks "$out/masks" --out "$out/figures" ${test[@]+"${test[@]}"} --quiet
  run python -m lbf.selection "$out"/{pretrained,control,lbf,lbf-truth}/checkpoint.pt ${test[@]+"${test[@]}"} --out "$out/selection.csv"
fi
run python -m common.tables "${runs[@]/%//results.csv}" --paper lbf/paper --paired 1000 --out "$out/table.md"
run python -m common.report "${runs[@]}" --paired 1000 --out "$out/report.html" "${gallery[@]}" --cache "$out/features"
[ -n "${DRY:-}" ] || [ "${script##*/}" != quickstart.sh ] || cat >&2 <<END # another script that goes on from here has its own end

Done. Open $out/report.html: first what was reached, then what each method gained over its control, with intervals.
- The spread over three seeds, and how far these numbers go: docs/results/quickstart.md${SMOKE:+ (SMOKE=1 trains on a few images: its numbers mean nothing)}. Another seed: SEED=1 bash experiments/quickstart.sh
- A network of your own, scored and as a detector: docs/own_network.md
- The papers' tables: docs/tables.md; what each needs and costs is at the head of its script in experiments/
END
