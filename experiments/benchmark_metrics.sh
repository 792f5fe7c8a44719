#!/usr/bin/env bash
# FPR95, AUROC and both AUPRs from one sort, against scikit-learn's calls, as a ratio in one run.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SMOKE:-}" ]; then set -- --scores 1000 --rounds 1; fi
python -m common.benchmark_metrics "$@"
