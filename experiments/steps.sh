# Sourced by the table and ablation scripts, after environment.sh.
#
#   step OUT NEED... -- command...    OUT is made by the command from the files NEED; a NEED written +FILE is a further file that it makes
#
# runs the command through common.step, unless OUT is there already and was made by this command from these inputs. With DRY=1 it prints
# the line instead, and runs nothing; every printed line can be run as it is, by hand, by a scheduler, or side by side:
#
#   DRY=1 bash experiments/lbf_table1.sh | xargs -P 8 -d '\n' -n 1 bash -c
#
# SEEDS="0 1 2" chooses the seeds, OUT=DIR the folder, SMOKE=1 a few generated images.
SEEDS=${SEEDS:-0}
step_keys=""

step() {
  local makes=$1 needs=() also=() line key word
  shift
  while [ "$1" != "--" ]; do
    if [[ "$1" == +* ]]; then also+=("${1#+}") && shift && continue; fi
    key=$(printf '%s' "$step_keys" | awk -F '\t' -v path="$1" '$1 == path { key = $2 } END { print key }')
    needs+=("$1${key:+@$key}")
    shift
  done
  shift
  key=$(printf '%s\0' "$@" ${needs[@]+"${needs[@]}"} | step_digest)
  step_keys="$step_keys$makes"$'\t'"$key"$'\n'
  set -- python -m common.step --makes "$makes" ${also[@]+--also "${also[@]}"} --key "$key" ${needs[@]+--needs "${needs[@]}"} -- "$@"
  if [ -n "${DRY:-}" ]; then
    line=""
    for word in "$@"; do line+="$(printf '%q' "$word") "; done
    echo "${line% }"
  else
    "$@"
  fi
}

step_digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

# need_sets NAME[/train]...: names what is missing before anything is trained. DRY=1 needs nothing.
need_sets() { [ -n "${SMOKE:-}${DRY:-}" ] || python -m common.data need "$@"; }

# The runs behind the papers' tables. All tables share one folder, so a network that two of them need is trained once.
out=${OUT:-runs/papers${SMOKE:+-smoke}}
results=()
if [ -n "${SMOKE:-}" ]; then short=(--limit 256 --epochs 1) few=(--limit 64); else short=() few=(); fi

# lbf_runs ID BACKBONE SEED OOD...: pre-trained, control and LBF, scored; adds to results.
lbf_runs() {
  local id=$1 backbone=$2 seed=$3 run start finetune=()
  shift 3
  local at="$out/lbf/$id-$backbone/seed-$seed" preset=$id ood=(--ood "$@")
  if [ -n "${SMOKE:-}" ]; then preset=shapes backbone=resnet8 ood=(); else finetune=(--preset "$id"); fi
  start="$at/pretrained/checkpoint.pt"
  step "$start" -- python -m common.pretrain "$preset" --backbone "$backbone" ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/pretrained"
  step "$at/control/checkpoint.pt" "$start" -- python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --lam 0 --seed "$seed" --out "$at/control"
  step "$at/lbf/checkpoint.pt" "$start" -- python -m lbf.finetune "$start" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/lbf"
  for run in pretrained control lbf; do
    step "$at/$run/results.csv" "$at/$run/checkpoint.pt" -- python -m common.evaluate "$at/$run/checkpoint.pt" ${ood[@]+"${ood[@]}"} --scorers papers ${few[@]+"${few[@]}"} --out "$at/$run/results.csv"
    results+=("$at/$run/results.csv")
  done
}

# dfb_runs ID SEED OOD...: stage 1, masks, dense training, scored under both protocols; adds to results. BIT_WEIGHTS: the BiT-M-R50x1 file, or hub.
dfb_runs() {
  local id=$1 seed=$2 protocol
  shift 2
  local at="$out/dfb/$id/seed-$seed" stage1=("dfb-${id%%:*}" --weights "${BIT_WEIGHTS:-hub}") finetune=() ood=(--ood "$@")
  [[ "$id" == imagenet1k* ]] && stage1=(dfb-cifar10 --id "$id" --weights "${BIT_WEIGHTS:-hub}") && finetune=(--preset cifar10)
  [ -n "${SMOKE:-}" ] && stage1=(shapes) finetune=() ood=()
  step "$at/stage1/checkpoint.pt" -- python -m common.pretrain "${stage1[@]}" ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/stage1"
  step "$at/masks/manifest.json" "$at/stage1/checkpoint.pt" -- python -m dfb.masks "$at/stage1/checkpoint.pt" --out "$at/masks"
  step "$at/dfb/checkpoint.pt" "$at/stage1/checkpoint.pt" "$at/masks/manifest.json" -- \
    python -m dfb.finetune "$at/stage1/checkpoint.pt" --masks "$at/masks" ${finetune[@]+"${finetune[@]}"} ${short[@]+"${short[@]}"} --seed "$seed" --out "$at/dfb"
  for protocol in own via32; do
    step "$at/dfb/results-$protocol.csv" "$at/dfb/checkpoint.pt" "$at/stage1/checkpoint.pt" -- python -m dfb.evaluate "$at/dfb/checkpoint.pt" --vanilla "$at/stage1/checkpoint.pt" \
      --protocol "$protocol" ${ood[@]+"${ood[@]}"} --scorers msp odin-dfb energy vim maxlogit klm react-99 ${few[@]+"${few[@]}"} --out "$at/dfb/results-$protocol.csv"
    results+=("$at/dfb/results-$protocol.csv")
    [ -n "${SMOKE:-}" ] && break # via32 enlarges 32 px images; the generated ones have 48
  done
  return 0
}

# paper_table NAME METHOD/SCORER...: the printed table NAME (lbf/table1, ...) with all results in it, further rows of ours at its end.
paper_table() {
  local name=$1 file="$out/${1/\//_}"
  shift
  quietly step "$file.md" "+$file.csv" "+$file.tex" "${results[@]}" -- python -m common.tables "${results[@]}" --paper "${name/\//\/paper\/}.csv" ${1+--extra "$@"} --out "$file.md" --csv "$file.csv" --latex "$file.tex"
  [ -n "${DRY:-}" ] || { cat "$file.md"; echo; echo "written: $file.md $file.csv $file.tex"; }
}

# quietly COMMAND...: without what it prints on stdout, unless that is what DRY=1 is for. show FILE: what is shown at the end.
quietly() { if [ -n "${DRY:-}" ]; then "$@"; else "$@" >/dev/null; fi; }
show() { [ -n "${DRY:-}" ] || { echo && cat "$1"; }; }
