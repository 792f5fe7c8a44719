# Sourced by the table and ablation scripts, after environment.sh.
#
#   step OUT NEED... -- command...    OUT is made by the command from the files NEED
#
# runs the command through common.step, unless OUT is there already and was made by this command from these inputs. With DRY=1 it prints
# the line instead, and runs nothing; every printed line can be run as it is, by hand, by a scheduler, or side by side:
#
#   DRY=1 bash experiments/lbf_table1.sh | xargs -P 8 -d '\n' -n 1 bash -c
#
# SEEDS="0 1 2" chooses the seeds, OUT=DIR the folder, SMOKE=1 a few generated images.
SEEDS=${SEEDS:-0}
step_keys=""

step() {
  local makes=$1 needs=() line key word
  shift
  while [ "$1" != "--" ]; do
    key=$(printf '%s' "$step_keys" | awk -F '\t' -v path="$1" '$1 == path { key = $2 } END { print key }')
    needs+=("$1${key:+@$key}")
    shift
  done
  shift
  key=$(printf '%s\0' "$@" ${needs[@]+"${needs[@]}"} | step_digest)
  step_keys="$step_keys$makes"$'\t'"$key"$'\n'
  set -- python -m common.step --makes "$makes" --key "$key" ${needs[@]+--needs "${needs[@]}"} -- "$@"
  if [ -n "${DRY:-}" ]; then
    line=""
    for word in "$@"; do line+="$(printf '%q' "$word") "; done
    echo "${line% }"
  else
    "$@"
  fi
}

step_digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

# need_sets NAME...: names what is missing before anything is trained.
need_sets() {
  [ -n "${SMOKE:-}" ] && return 0
  local found name missing=()
  found=" $(python -m common.data found) "
  for name in "$@"; do [[ "$found" == *" $name "* ]] || missing+=("$name"); done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "error: not below ${OOD_DATA:-data}: ${missing[*]}; python -m common.data fetch ${missing[*]} gets them or says how" >&2
    [ -n "${DRY:-}" ] || exit 2
  fi
}
