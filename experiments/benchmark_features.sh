#!/usr/bin/env bash
# Peak memory of every score on training features that lie on disk, a tenth of ImageNet's number; --train 1281167 takes about 25 GB of disk.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --train 2000 --test 50 --channels 64 --classes 10 "$@"; fi
python -m common.benchmark_features "$@"
