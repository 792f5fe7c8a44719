#!/usr/bin/env bash
# All scores from one look at the images against one network pass a detector (pytorch-ood where it has it): time and peak memory in one run.
#   bash experiments/benchmark_scorers.sh [--backbone resnet34 --train 10000 --id 10000 --ood 2000 ...]
extras="[test]"
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --backbone resnet8 --train 200 --id 20 --ood 10 --sets 2; fi
python -m common.benchmark_scorers "$@"
