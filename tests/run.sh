#!/usr/bin/env bash
# All tests, on one thread: bash tests/run.sh [pytest options]
extras="[test]"
. "$(dirname "${BASH_SOURCE[0]}")/../experiments/environment.sh"
export OMP_NUM_THREADS=1
exec python -m pytest -q "$@"
