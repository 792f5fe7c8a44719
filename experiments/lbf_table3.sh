#!/usr/bin/env bash
# LBF Table III: ImageNet-100 (NPOS's list), ResNet-50; iNaturalist, SUN, Places, Textures.
#
# Cost: 130,000 photographs (about 15 GB); 200 + 2 x 10 epochs at 224 px for each seed. GPU hours: not measured.
# Expectation: bands of docs/lbf.md: pre-trained energy within 3 AUROC points of the paper's; LBF above its control by more than two standard deviations over seeds.
#   SEEDS="0 1 2" bash experiments/lbf_table3.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets imagenet100 lbf-imagenet
for seed in $SEEDS; do lbf_runs imagenet100 resnet50 "$seed" lbf-imagenet; done
paper_table lbf/table3 control/react control/energy LBF/energy
