#!/usr/bin/env bash
# Lint, format, then all tests but the slow ones, in two processes of one thread each: bash tests/run.sh [pytest options; -n 0 for one process]
extras="[test]"
. "$(dirname "${BASH_SOURCE[0]}")/../experiments/environment.sh"
export OMP_NUM_THREADS=1
python -m ruff check .
python -m ruff format --check .
exec python -m pytest -q -n 2 -m "not slow" "$@" # those: tests/full.sh
