#!/usr/bin/env bash
# What a dense training step costs beside a classification step of the same network, as a ratio in one run; peak memory of each.
# Expectation: 1.10 for K = 10 and 1.25 for K = 100 on BiT-R50x1 at 128 px are the aim; features first (Eq. 4 as written) takes 5 times as long or more.
#   bash experiments/benchmark_dense.sh [--backbone resnet18 --image-size 64 --batch-size 16 --repeats 20 ...]
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --backbone resnet8 --image-size 32 --batch-size 2 --classes 3 --repeats 1; fi
python -m dfb.benchmark "$@"
