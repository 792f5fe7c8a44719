#!/usr/bin/env bash
# DFB's figures from runs that are there: Fig. 1 attention, 4 scores, 5 t-SNE, 6 AUROC against T, masks. (Fig. 7: dfb_imagenet.sh, then dfb.classes.)
#
# Cost: about a minute on one CPU core; one pass over each set.
#   bash experiments/dfb_figures.sh VANILLA DFB MASKS    folders of finished runs and of the masks [the quickstart's, which is run if it was not]
# SETS="svhn textures": OOD sets, the first for Fig. 5 [shapes-textures shapes-objects]. OUT=DIR [figures beside the runs]. DRY=1 prints, SMOKE=1 as in lbf_figures.sh.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

figures=${OUT:-}
if [ $# -eq 0 ]; then
  OUT="" base=runs/quickstart-shapes${SMOKE:+-smoke}/seed-0
  [ -f $base/dfb/results.csv ] || . experiments/quickstart.sh
  set -- $base/pretrained $base/dfb $base/masks
fi
read -r -a sets <<<"${SETS:-shapes-textures shapes-objects}"
figures=${figures:-$(dirname "$1")/figures}
run python -m dfb.figures "$2/checkpoint.pt" --vanilla "$1/checkpoint.pt" --masks "$3" --ood "${sets[@]}" --out "$figures" ${SMOKE:+--limit 64}
run python -m dfb.tsne "$2/checkpoint.pt" --vanilla "$1/checkpoint.pt" --ood "${sets[0]}" --out "$figures" ${SMOKE:+--limit 64}
run python -m dfb.temperature "$2/checkpoint.pt" --vanilla "$1/checkpoint.pt" --scorers msp energy vim --ood "${sets[@]}" --out "$figures" ${SMOKE:+--limit 64}
