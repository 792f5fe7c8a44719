#!/usr/bin/env bash
# LBF Table IV: LBF under each score, from the networks of Tables I and III; what stands there already is not trained again.
#
# Cost: nothing beyond lbf_table1.sh and lbf_table3.sh. LBF_IMAGENET=1 takes ImageNet-100 in.
# Expectation: the paper's gains are over the pre-trained network; the rows "control" say what the added epochs alone do.
#   SEEDS="0 1 2" bash experiments/lbf_table4.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train cifar100/train lbf-cifar ${LBF_IMAGENET:+imagenet100 lbf-imagenet}
for seed in $SEEDS; do
  lbf_runs cifar10 resnet34 "$seed" lbf-cifar
  [ -n "${SMOKE:-}" ] || lbf_runs cifar100 resnet34 "$seed" lbf-cifar
  [ -z "${LBF_IMAGENET:-}" ] || lbf_runs imagenet100 resnet50 "$seed" lbf-imagenet
done
paper_table lbf/table4 control/msp control/energy control/odin control/react control/featurenorm
