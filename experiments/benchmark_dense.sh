#!/usr/bin/env bash
# Time and peak memory of a dense training step against a classification step: bash experiments/benchmark_dense.sh [flags of dfb.benchmark]
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
python -m dfb.benchmark "$@"
