#!/usr/bin/env bash
# Eight workers on one small table, started in the wrong order: every step runs once, and the table has the bytes of a sequential run.
#   bash tests/side_by_side.sh        about a minute and a half on two cores
. "$(dirname "${BASH_SOURCE[0]}")/../experiments/environment.sh"
export OMP_NUM_THREADS=1 SMOKE=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
DRY=1 OUT="$folder/eight" bash experiments/lbf_table1.sh >"$folder/lines"
tac "$folder/lines" | xargs -P 8 -d '\n' -n 1 bash -c >/dev/null 2>"$folder/said" || { cat "$folder/said"; exit 1; }
OUT="$folder/one" bash experiments/lbf_table1.sh >/dev/null 2>&1
ran=$(grep -c '^[^ ]*: python -m' "$folder/said" || true)
once=$(grep -o '^[^ ]*: python -m' "$folder/said" | sort -u | wc -l)
steps=$(wc -l <"$folder/lines")
echo "$steps steps, $ran ran, $once different ones"
[ "$ran" = "$steps" ]
[ "$once" = "$steps" ]
cmp "$folder/one/lbf_table1.csv" "$folder/eight/lbf_table1.csv"
cmp "$folder/one/lbf_table1.md" "$folder/eight/lbf_table1.md"
echo "the tables are the same byte by byte"
