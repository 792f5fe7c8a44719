#!/usr/bin/env bash
# From nothing to tables: pre-train, LBF fine-tune, the same fine-tune without the penalty (control), score, draw; then DFB from the same
# pre-trained network: pseudo-masks, dense training, joint score.
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
case $set in
  shapes) pretrain=(shapes) finetune=() ood=() scorers=(msp energy react) ;;
  cifar10)
    pretrain=(cifar10-quick --limit 25000)
    finetune=(--epochs 6)
    ood=(--ood $(python -m common.data found isun cifar100 svhn lsun_crop lsun_resize textures places365 textures-10 miniplaces-2500) cifar10:encode=jpeg75 cifar10:encode=webp90)
    scorers=(msp energy react) ;;
  *) echo "error: unknown set '$set'; known: shapes, cifar10" >&2; exit 2 ;;
esac
out=${OUT:-runs/quickstart-$set${SMOKE:+-smoke}}/seed-$seed
test=()
if [ -n "${SMOKE:-}" ]; then
  pretrain+=(--limit 256 --epochs 1) finetune=(--epochs 1) test=(--limit 64)
fi

start=$out/pretrained/checkpoint.pt
run python -m common.pretrain "${pretrain[@]}" --seed "$seed" --out "$out/pretrained"
run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} --seed "$seed" --out "$out/lbf"
run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} --seed "$seed" --lam 0 --out "$out/control"
for name in pretrained control lbf; do
  run python -m common.evaluate "$out/$name/checkpoint.pt" ${ood[@]+"${ood[@]}"} --scorers "${scorers[@]}" ${test[@]+"${test[@]}"} --cache "$out/features" --out "$out/$name/results.csv"
done
run python -m lbf.figures "$out/pretrained" "$out/control" "$out/lbf" --out "$out/figures" ${test[@]+"${test[@]}"}
if [ "$set" = shapes ]; then
  run python -m dfb.masks "$start" --score-against truth --out "$out/masks"
  run python -m dfb.finetune "$start" --masks "$out/masks" ${finetune[@]+"${finetune[@]}"} --seed "$seed" --out "$out/dfb"
  run python -m dfb.evaluate "$out/dfb/checkpoint.pt" --vanilla "$start" --scorers msp energy vim ${test[@]+"${test[@]}"} --cache "$out/features" --out "$out/dfb/results.csv"
  run python -m dfb.figures "$out/dfb/checkpoint.pt" --vanilla "$start" --masks "$out/masks" --out "$out/figures"
  run python -m lbf.selection "$out"/{pretrained,control,lbf}/checkpoint.pt ${test[@]+"${test[@]}"} --out "$out/selection.csv"
fi
run python -m common.tables "$out"/{pretrained,control,lbf}/results.csv --paper lbf/paper --paired 1000 --out "$out/table.md"
run python -m common.report "$out"/{pretrained,control,lbf} --paired 1000 --out "$out/report.html" --limit 500 --cache "$out/features"
