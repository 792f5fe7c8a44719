#!/usr/bin/env bash
# Published CIFAR networks, converted and scored: accuracy beside their repositories' figures, scores beside DICE's and ASH's printed cells.
#
# $OOD_WEIGHTS (default weights/) holds the files, under their repositories' names:
#   github.com/akamaster/pytorch_resnet_cifar10, pretrained_models/: resnet20-12fca82f.th (91.73 %), resnet32-d509ac18.th (92.63), resnet44-014dd654.th (93.10),
#   resnet56-4bfd9763.th (93.39); github.com/deeplearning-wisc/dice, checkpoints/CIFAR-{10,100}/densenet_dice/checkpoint_100.pth.tar as dice-cifar10.pth.tar (94.54), dice-cifar100.pth.tar
# Those that are not there are named and left out. Cost on one CPU core: DenseNet about 26 ms an image, ResNets 1 to 6; DICE passes the 50,000 training images, ODIN each test image three times.
# Expectation: accuracies within two images of the repositories'; the DenseNet's scores within 0.5 points of the printed cells.
# NETWORKS="resnet20 densenet-cifar10", SCORERS="msp energy", OUT=DIR, SMOKE=1 (generated weights and images), DRY=1: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

weights=${OOD_WEIGHTS:-weights}
out=${OUT:-runs/published${SMOKE:+-smoke}}
read -r -a scorers <<< "${SCORERS:-msp maxlogit energy gen odin:T=1000,eps=0.0014 react-c1 dice ash-s:percentile=95}"
results=()
# name, backbone, file, ID set, accuracy its repository gives
known="
resnet20           resnet20        resnet20-12fca82f.th   cifar10   91.73
resnet32           resnet32        resnet32-d509ac18.th   cifar10   92.63
resnet44           resnet44        resnet44-014dd654.th   cifar10   93.10
resnet56           resnet56        resnet56-4bfd9763.th   cifar10   93.39
densenet-cifar10   densenet100-12  dice-cifar10.pth.tar   cifar10   94.54
densenet-cifar100  densenet100-12  dice-cifar100.pth.tar  cifar100  -
"
if [ -n "${SMOKE:-}" ]; then
  scorers=(msp energy)
  known="
resnet20          resnet20        generated  shapes  -
densenet-cifar10  densenet100-12  generated  shapes  -"
fi

# network NAME BACKBONE FILE ID ACCURACY
network() {
  local file=$weights/$3 classes=(--classes "$4") test=() at=$out/$1
  if [ -n "${SMOKE:-}" ]; then
    classes+=(--image-size 48) file=$at.pt test=(--limit 16)
    [ -n "${DRY:-}" ] || python -c "import sys, torch; from pathlib import Path; from common.backbones import build; Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True); torch.manual_seed(0); m = build(sys.argv[2], 8); torch.save(m.body.state_dict() | {'fc.weight': m.head.weight, 'fc.bias': m.head.bias}, sys.argv[1])" "$file" "$2"
  else
    [ -n "${DRY:-}" ] || [ -f "$file" ] || { echo "$1: no $file, left out" >&2; return 0; }
    local ood; ood=" $(python -m common.data found any-cifar10) "; ood=${ood/#  /}
    ood=${ood/ $4 / }
    test=(--ood ${ood:-any-cifar10}) # none: they are named
  fi
  run python -m common.convert "$file" --backbone "$2" "${classes[@]}" --out "$at"
  run python -m common.evaluate "$at/checkpoint.pt" "${test[@]}" --scorers "${scorers[@]}" --cache "$out/features" --out "$at/results.csv"
  results+=("$at/results.csv")
  [ "$5" = - ] || [ -n "${DRY:-}" ] || accuracy "$1" "$at/results.csv" "$5"
}

# accuracy NAME CSV EXPECTED: ours beside the repository's, and whether they are within two images
accuracy() {
  python - "$@" << 'END'
import csv, sys

name, path, expected = sys.argv[1:]
row = next(csv.DictReader(open(path)))
images = round(float(row["id_accuracy"]) * int(row["n_id"])) - round(float(expected) / 100 * int(row["n_id"]))
print(f"{name}: accuracy {100 * float(row['id_accuracy']):.2f} %, its repository's {expected} %: {images:+d} images, {'within two' if abs(images) <= 2 else 'NOT WITHIN TWO'}")
END
}

while read -r -u 3 name rest; do
  [ -z "$name" ] || { [ -n "${NETWORKS:-}" ] && [[ " $NETWORKS " != *" $name "* ]]; } || network "$name" $rest
done 3<<< "$known"
[ ${#results[@]} -gt 0 ] || { echo "error: none of the networks' files is in $weights; the head of this script says where they are" >&2; exit 2; }
paper=()
[ -n "${SMOKE:-}" ] || paper=(--paper experiments/paper/dice.csv --extra pre-trained/gen)
run python -m common.tables "${results[@]}" --out "$out/table.md"
[ -n "${SMOKE:-}" ] || run python -m common.tables "${results[@]}" "${paper[@]}" --out "$out/paper.md" --csv "$out/paper.csv"
