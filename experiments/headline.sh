#!/usr/bin/env bash
# LBF's headline numbers: CIFAR-10, ResNet-34, pre-trained, control and LBF under every post-hoc score, beside the printed Table I.
#
# Cost: 200 + 2 x 30 epochs for each seed. GPU hours: not measured. OOD sets: those of LBF Table I that are found in $OOD_DATA (python -m common.data list).
# Expectation: as lbf_table1.sh, whose networks these are: what stands in its folder already is not trained again.
#   SEEDS="0 1 2" bash experiments/headline.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train
read -r -a ood <<<"$(python -m common.data found lbf-cifar)"
[ ${#ood[@]} -gt 0 ] || { need_sets lbf-cifar && ood=(lbf-cifar); } # none: they are named; with DRY=1 all are printed
for seed in $SEEDS; do lbf_runs cifar10 resnet34 "$seed" "${ood[@]}"; done
paper_table lbf/table1 control/react control/energy LBF/energy
