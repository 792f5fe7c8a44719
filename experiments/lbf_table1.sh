#!/usr/bin/env bash
# LBF Table I: CIFAR-10 and CIFAR-100, ResNet-34, every post-hoc score; six OOD sets.
#
# Cost: about 4 GB of data; 200 + 2 x 30 epochs for each ID set and seed. GPU hours: not measured.
# Expectation: bands of docs/lbf.md: pre-trained energy within 3 AUROC points of the paper's; LBF above its control by more than two standard deviations over seeds.
#   SEEDS="0 1 2" bash experiments/lbf_table1.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train cifar100/train lbf-cifar
for seed in $SEEDS; do
  lbf_runs cifar10 resnet34 "$seed" lbf-cifar
  [ -n "${SMOKE:-}" ] || lbf_runs cifar100 resnet34 "$seed" lbf-cifar
done
paper_table lbf/table1 control/react control/energy LBF/energy
