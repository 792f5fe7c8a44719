#!/usr/bin/env bash
# What takes too long for every change: the slow tests, a table of DFB on a few generated images, thousands of damaged inputs and hundreds of kills; about half an hour of
# one core. bash tests/full.sh [SEED]
. "$(dirname "${BASH_SOURCE[0]}")/../experiments/environment.sh"
export OMP_NUM_THREADS=1
python -m pytest -q -m slow
SMOKE=1 bash experiments/dfb_table3.sh
python tests/fuzz.py --inputs 3000 --seed "${1:-1}"
python tests/kills.py --kills 200 --seed "${1:-1}"
