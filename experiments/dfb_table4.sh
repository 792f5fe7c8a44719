#!/usr/bin/env bash
# DFB Table 4: ID accuracy of the vanilla and of the DFB network (first K logits); from the networks of Tables 1 and 2.
#
# Cost: nothing beyond dfb_table1.sh and dfb_table2.sh.
# Expectation: the paper: 97.25 to 97.13 and 85.94 to 86.17.
#   SEEDS="0 1 2" bash experiments/dfb_table4.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train cifar100/train dfb-cifar10
for seed in $SEEDS; do
  dfb_runs cifar10 "$seed" dfb-cifar10
  [ -n "${SMOKE:-}" ] || dfb_runs cifar100 "$seed" dfb-cifar100
done
paper_table dfb/table4
