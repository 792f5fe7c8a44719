#!/usr/bin/env bash
# DFB Table 1: cifar10, BiT-M-R50x1; X and X-DFB. BIT_WEIGHTS=FILE: the public BiT-M-R50x1 weights (.npz or timm's form), else they are fetched.
#
# Cost: about 4 GB of data, 100 MB of weights; 2 x 20,000 steps of batch 128 at 128 px for each seed. GPU hours: not measured.
# Expectation: the sign of S_b is not settled by the paper: S_h alone, -, two-sided and the resolution control (via32) stand at the table's end.
#   SEEDS="0 1 2" bash experiments/dfb_table1.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train dfb-cifar10
for seed in $SEEDS; do dfb_runs cifar10 "$seed" dfb-cifar10; done
paper_table dfb/table1 "DFB, S_h alone/msp" "DFB -/msp" "DFB two-sided/msp" "DFB, S_h alone/energy" "DFB, S_h alone/vim" "DFB -/energy" "DFB -/vim" "DFB two-sided/energy" "DFB two-sided/vim" "DFB + (via32)/energy" "DFB + (via32)/vim"
