# Sourced by every script: go to the project's root, have an environment with the project in it, and `run` commands.
#
# With no virtual environment active, .venv is made and used, with the versions of constraints.txt. In an active one only what is
# missing is installed. OOD_INSTALL=0 installs nothing (a machine without a package index that has the packages already).
set -euo pipefail
script="$(cd "$(dirname "$0")" && pwd)/${0##*/}"
script_words=("$@")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
extras="${extras:-}"

# The first Python here that is new enough (pyproject.toml): $PYTHON alone, if given.
find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' 2>/dev/null; then echo "$name" && return; fi
  done
  name=$("${PYTHON:-python3}" -V 2>&1 | head -1 || true)
  echo "error: expected Python 3.11.4 or newer, found ${name:-none}; give one with PYTHON=/path/to/python3" >&2
  return 2
}

if [ "${OOD_INSTALL:-1}" != 0 ]; then
  pins=()
  if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    if [ ! -x .venv/bin/python ]; then
      python=$(find_python)
      "$python" -m venv .venv
    fi
    # shellcheck disable=SC1091
    . .venv/bin/activate
    pins=(-c constraints.txt)
  fi
  # Installed once for each state of the requirements; with extras is without them too.
  plain="${VIRTUAL_ENV:-${CONDA_PREFIX:-.venv}}/.ood-backgrounds"
  stamp="$plain${extras//[^a-z]/-}"
  want="$(cat pyproject.toml constraints.txt | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "installing the project and its dependencies (once; PyTorch is large)" >&2
    python -m pip install --quiet --disable-pip-version-check ${pins[@]+"${pins[@]}"} -e ".$extras"
    echo "$want" | tee "$stamp" > "$plain"
  fi
fi

# run python -m MODULE words...: the next command of a script, which finds out itself whether there is anything to do. Of each word that is, lies below
# or contains what an earlier line had after --out, it expects that this line made it: --expect PATH=KEY (docs/tables.md). DRY=1 prints the line instead.
# beside=1 run ...: in the background, one at a time. What needs its output waits for it (--expect); if it fails, so does the script.
made=() steps=0 other=""
run() {
  local word last="" out="" known words=() typed="${*:3}"
  for word in "${@:3}"; do if [ "$last" = --out ]; then out=$word; else words+=("$word"); fi && last=$word; done
  for known in ${made[@]+"${made[@]}"}; do
    for word in "${words[@]}"; do
      if [[ "$word/" == "${known%=*}"/* || "${known%=*}/" == "$word"/* ]]; then set -- "$@" --expect "$known" && break; fi
    done
  done
  [ -z "$out" ] || made+=("$out=$(line_key "${@:3}")")
  if [ -n "${DRY:-}" ]; then printf '%q ' "$@" && echo && return; fi
  total=${total:-$(DRY=1 bash "$script" ${script_words[@]+"${script_words[@]}"} | wc -l)}
  echo "step $((steps += 1))/$((total)): $typed" >&2
  ${beside:+aside} "$@"
}
aside() { end_other; "$@" & other=$!; }
end_other() { local was=$other; other=""; [ -z "$was" ] || wait "$was"; } # its status is that of the command in the background
leave() { # the script ends with status $1: not before the command in the background, which is stopped (it saves) where another has failed
  [ "$1" = 0 ] || [ -z "$other" ] || kill "$other" 2>/dev/null || true
  end_other && exit "$1" || exit $(($1 ? $1 : $?))
}
trap 'leave $?' EXIT
line_key() { printf '%s\0' "$@" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16; }

# need_sets NAME[/train]...: names what is missing before anything is trained. DRY=1 needs nothing.
need_sets() { [ -n "${SMOKE:-}${DRY:-}" ] || python -m common.data need "$@"; }

SEEDS=${SEEDS:-0}
