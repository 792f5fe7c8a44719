#!/usr/bin/env bash
# Images a second: torchvision's folder and PIL transforms, ours, ours on a smaller copy, and the training step alone. The smallest is the limit.
#   bash experiments/benchmark_streaming.sh [--folder PATH --backbone resnet50 ...]
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --images 16 --image-size 48 --backbone resnet8 --batch-size 4 --rounds 1; fi
python -m common.benchmark_streaming "$@"
