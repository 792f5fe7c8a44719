# Sourced by the papers' table scripts: the runs behind the tables. All tables share one folder, so a network that two of them need is trained once.
#
# SEEDS="0 1 2" chooses the seeds, OUT=DIR the folder, SMOKE=1 a few generated images; DRY=1 prints the commands instead: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
out=${OUT:-runs/papers${SMOKE:+-smoke}}
results=()
if [ -n "${SMOKE:-}" ]; then short=(--limit 256 --epochs 1) few=(--limit 64); else short=() few=(); fi

# lbf_runs ID BACKBONE SEED OOD...: pre-trained, control and LBF, scored; adds to results.
lbf_runs() {
  local id=$1 backbone=$2 seed=$3 name finetune=(--preset "$1")
  shift 3
  local at="$out/lbf/$id-$backbone/seed-$seed" preset=$id ood=(--ood "$@")
  if [ -n "${SMOKE:-}" ]; then preset=shapes backbone=resnet8 ood=() finetune=(); fi
  local start="$at/pretrained/checkpoint.pt"
  run python -m common.pretrain "$preset" --backbone "$backbone" ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/pretrained"
  run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --lam 0 --seed "$seed" --out "$at/control"
  run python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/lbf"
  for name in pretrained control lbf; do
    run python -m common.evaluate "$at/$name/checkpoint.pt" ${ood[@]+"${ood[@]}"} --scorers papers ${few[@]+"${few[@]}"} --out "$at/$name/results.csv"
    results+=("$at/$name/results.csv")
  done
}

# dfb_runs ID SEED OOD...: stage 1, masks, dense training, scored under both protocols; adds to results. BIT_WEIGHTS: the BiT-M-R50x1 file, or hub.
dfb_runs() {
  local id=$1 seed=$2 protocol
  shift 2
  local at="$out/dfb/$id/seed-$seed" stage1=("dfb-${id%%:*}" --weights "${BIT_WEIGHTS:-hub}") finetune=() ood=(--ood "$@")
  [[ "$id" == imagenet1k* ]] && stage1=(dfb-cifar10 --id "$id" --weights "${BIT_WEIGHTS:-hub}") && finetune=(--preset cifar10)
  [ -n "${SMOKE:-}" ] && stage1=(shapes) finetune=() ood=()
  local start="$at/stage1/checkpoint.pt"
  run python -m common.pretrain "${stage1[@]}" ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/stage1"
  run python -m dfb.masks "$start" --out "$at/masks"
  run python -m dfb.finetune "$start" --masks "$at/masks" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/dfb"
  for protocol in own via32; do
    run python -m dfb.evaluate "$at/dfb/checkpoint.pt" --vanilla "$start" --protocol "$protocol" ${ood[@]+"${ood[@]}"} \
      --scorers msp odin-dfb energy vim maxlogit klm react-99 ${few[@]+"${few[@]}"} --out "$at/dfb/results-$protocol.csv"
    results+=("$at/dfb/results-$protocol.csv")
    [ -n "${SMOKE:-}" ] && break # via32 enlarges 32 px images; the generated ones have 48
  done
  return 0
}

# paper_table NAME METHOD/SCORER...: the printed table NAME (lbf/table1, ...) with all results in it, further rows of ours at its end.
paper_table() {
  local name=$1 file="$out/${1/\//_}"
  shift
  run python -m common.tables "${results[@]}" --paper "${name/\//\/paper\/}.csv" ${1+--extra "$@"} --out "$file.md" --csv "$file.csv" --latex "$file.tex"
}
