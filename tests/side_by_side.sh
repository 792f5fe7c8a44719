#!/usr/bin/env bash
# Eight workers on one small table, every line twice and in the wrong order, one of them killed: each command's work is done once, what was killed is taken
# up, and the table has the bytes of a sequential run.
#   bash tests/side_by_side.sh        about a minute and a half on two cores
. "$(dirname "${BASH_SOURCE[0]}")/../experiments/environment.sh"
export OMP_NUM_THREADS=1 SMOKE=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
DRY=1 OUT="$folder/eight" bash experiments/lbf_table1.sh >"$folder/lines"
lines=$(wc -l <"$folder/lines")

read -r first <"$folder/lines"
bash -c "exec $first" >/dev/null 2>&1 & # killed in the middle of its work: it has its identity by then
until grep -q '"identity"' "$folder"/eight/lbf/*/seed-0/.pretrained.lock 2>/dev/null; do sleep 0.05; done
kill -KILL $!
wait $! || true

cat <(tac "$folder/lines") "$folder/lines" | xargs -P 8 -d '\n' -n 1 bash -c >/dev/null 2>"$folder/said" || { cat "$folder/said"; exit 1; }
done_already=$(grep -c 'done already$' "$folder/said")
echo "$lines commands, asked for twice; $done_already found done"
[ "$done_already" = "$lines" ]
OUT="$folder/one" bash experiments/lbf_table1.sh >/dev/null 2>&1
cmp "$folder/one/lbf_table1.csv" "$folder/eight/lbf_table1.csv"
cmp "$folder/one/lbf_table1.md" "$folder/eight/lbf_table1.md"
echo "the tables are the same byte by byte"
