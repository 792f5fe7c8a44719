#!/usr/bin/env bash
# DFB Table 3: S_b alone, S_h and both; with the column the paper leaves out (S_h on the DFB network) and every sign; from the networks of Tables 1 and 2.
#
# Cost: nothing beyond dfb_table1.sh and dfb_table2.sh.
# Expectation: the sign of S_b is not settled by the paper: S_h alone, -, two-sided and the resolution control (via32) stand at the table's end.
#   SEEDS="0 1 2" bash experiments/dfb_table3.sh        again = go on; DRY=1 prints the commands, one a line; SMOKE=1 runs all of them on a few generated images
. "$(dirname "${BASH_SOURCE[0]}")/papers.sh"

need_sets cifar10/train cifar100/train dfb-cifar10
for seed in $SEEDS; do
  dfb_runs cifar10 "$seed" dfb-cifar10
  [ -n "${SMOKE:-}" ] || dfb_runs cifar100 "$seed" dfb-cifar100
done
paper_table dfb/table3 "background alone/-" "background alone/two-sided" "DFB, S_h alone/energy" "DFB, S_h alone/vim" "DFB -/energy" "DFB -/vim" "DFB two-sided/energy" "DFB two-sided/vim" "DFB + (via32)/energy" "DFB + (via32)/vim"
