#!/usr/bin/env bash
# LBF's figures from runs that are there: Fig. 2 t-SNE, 3 bars, 5 norms, 7 heat maps, training curves. (Fig. 6: lbf_sensitivity.sh.)
#
# Cost: about a minute and a half on one CPU core; at most one pass over 1,000 images a set.
#   bash experiments/lbf_figures.sh PRETRAINED CONTROL LBF    folders of finished, scored runs [the quickstart's, which is run if it was not]
# SET=isun: the OOD set of Fig. 2 [shapes-objects]. OUT=DIR [figures beside the runs]. DRY=1 prints the commands, SMOKE=1 uses the quickstart's few images.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

figures=${OUT:-}
if [ $# -eq 0 ]; then
  OUT="" base=runs/quickstart-shapes${SMOKE:+-smoke}/seed-0
  [ -f $base/lbf/results.csv ] || . experiments/quickstart.sh
  set -- $base/pretrained $base/control $base/lbf
fi
figures=${figures:-$(dirname "$1")/figures}
run python -m lbf.figures "$@" --out "$figures" ${SMOKE:+--limit 64}
run python -m lbf.tsne "$1/checkpoint.pt" --ood "${SET:-shapes-objects}" --out "$figures" ${SMOKE:+--limit 64}
run python -m lbf.bars "${@/%//results.csv}" --paper lbf/paper/table1.csv lbf/paper/table3.csv --out "$figures"
