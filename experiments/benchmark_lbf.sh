#!/usr/bin/env bash
# What LBF adds to a training step, as a ratio in one run. Expectation: live under 1.03 for ResNet-34; frozen adds a forward pass.
#   bash experiments/benchmark_lbf.sh [--backbone resnet34 --rounds 20 ...]
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --backbone resnet8 --batch-size 8 --rounds 1; fi
python -m lbf.benchmark "$@"
