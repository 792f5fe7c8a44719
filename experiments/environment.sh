# Sourced by every script: go to the project's root and have an environment with the project in it.
#
# With no virtual environment active, .venv is made and used, with the versions of constraints.txt. In an active one only what is
# missing is installed. OOD_INSTALL=0 installs nothing (a machine without a package index that has the packages already).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
extras="${extras:-}"

if [ "${OOD_INSTALL:-1}" != 0 ]; then
  pins=()
  if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    # shellcheck disable=SC1091
    . .venv/bin/activate
    pins=(-c constraints.txt)
  fi
  # Installed once for each state of the requirements.
  stamp="${VIRTUAL_ENV:-${CONDA_PREFIX:-.venv}}/.ood-backgrounds${extras//[^a-z]/-}"
  want="$(cat pyproject.toml constraints.txt | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "installing the project and its dependencies (once; PyTorch is large)" >&2
    python -m pip install --quiet --disable-pip-version-check ${pins[@]+"${pins[@]}"} -e ".$extras"
    echo "$want" > "$stamp"
  fi
fi
