#!/usr/bin/env bash
# Get and check the CIFAR benchmark's sets: bash experiments/data.sh [NAME...]. Root: $OOD_DATA, default data/. DRY=1 prints the commands.
set -uo pipefail
cd "$(dirname "$0")/.."
run() { if [ -n "${DRY:-}" ]; then echo "$@"; else "$@"; fi; }
sets=("$@")
[ $# -gt 0 ] || sets=(cifar10 cifar100 lbf-cifar)

run "${PYTHON:-python}" -m common.data fetch "${sets[@]}" # says what to get by hand; what did come is checked below
run "${PYTHON:-python}" -m common.data verify "${sets[@]}"
