#!/usr/bin/env bash
# Published CIFAR networks, converted and scored: accuracy beside their repositories' figures, scores beside DICE's and ASH's printed cells.
#
# $OOD_WEIGHTS (default weights/) holds the files, under their repositories' names:
#   github.com/akamaster/pytorch_resnet_cifar10, pretrained_models/: resnet20-12fca82f.th (91.73 %), resnet32-d509ac18.th (92.63), resnet44-014dd654.th (93.10),
#   resnet56-4bfd9763.th (93.39); github.com/deeplearning-wisc/dice, checkpoints/CIFAR-{10,100}/densenet_dice/checkpoint_100.pth.tar as dice-cifar10.pth.tar (94.54), dice-cifar100.pth.tar
# Cost on one CPU core: DenseNet about 26 ms an image, ResNets 1 to 3. OUT=DIR, SCORERS="msp energy", SMOKE=1 (generated weights and images), DRY=1: docs/tables.md.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

weights=${OOD_WEIGHTS:-weights}
out=${OUT:-runs/published${SMOKE:+-smoke}}
read -r -a scorers <<< "${SCORERS:-msp maxlogit energy odin react-c1 dice ash-s}"
results=()

# network NAME BACKBONE FILE ID
network() {
  local file=$weights/$3 classes=(--classes "$4") test=()
  if [ -n "${SMOKE:-}" ]; then
    classes=(--classes shapes --image-size 48) file=$out/$1.pt test=(--limit 16)
    [ -n "${DRY:-}" ] || python -c "import sys, torch; from pathlib import Path; from common.backbones import build; Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True); torch.manual_seed(0); m = build(sys.argv[2], 8); torch.save(m.body.state_dict() | {'fc.weight': m.head.weight, 'fc.bias': m.head.bias}, sys.argv[1])" "$file" "$2"
  else
    test=(--ood $(python -m common.data found isun svhn textures places365 lsun_crop lsun_resize textures-10 miniplaces-2500))
  fi
  run python -m common.convert "$file" --backbone "$2" "${classes[@]}" --out "$out/$1"
  run python -m common.evaluate "$out/$1/checkpoint.pt" "${test[@]}" --scorers "${scorers[@]}" --cache "$out/features" --out "$out/$1/results.csv"
  results+=("$out/$1/results.csv")
}

[ -z "${SMOKE:-}" ] || scorers=(msp energy)
for name in 20-12fca82f 32-d509ac18 44-014dd654 56-4bfd9763; do
  network "resnet${name%-*}" "resnet${name%-*}" "resnet$name.th" cifar10
  [ -z "${SMOKE:-}" ] || break
done
network densenet-cifar10 densenet100-12 dice-cifar10.pth.tar cifar10
[ -n "${SMOKE:-}" ] || network densenet-cifar100 densenet100-12 dice-cifar100.pth.tar cifar100
run python -m common.tables "${results[@]}" --out "$out/table.md"
