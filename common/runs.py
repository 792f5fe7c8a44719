"""Training runs in a folder: what they are, and what of them can go.

    python -m common.runs list runs      each run: method, preset, seed, finished or not, size
    python -m common.runs prune runs     what would be freed; with --yes it is

A run that was asked for with another recipe is moved aside (RUN.1, RUN.2, ...), a damaged checkpoint is kept beside the new one, nothing is deleted; prune frees
those, and what killed commands left half-written.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from common import checkpoint
from common.cli import flags
from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.files import read_json
from common.cli.locks import holder
from common.cli.steps import ASIDE
from common.results.tables import markdown

UNTOUCHED_S = 3600  # a part not written to for so long is a dead command's


def is_aside(folder: Path) -> bool:
    """Whether a run was moved aside. Its name alone does not say so: `delta=.1` is somebody's run."""
    return read_json(folder / ASIDE).get("is") == folder.name


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def runs_table(folder: Path) -> str:
    """One line a run below `folder`."""
    lines = []
    for path in sorted(folder.rglob("checkpoint.pt")):
        try:
            facts = checkpoint.read_facts(path)
            said = [str(facts.get(name, "?")) for name in ("method", "preset", "seed")] + [
                "yes" if facts["finished"] else "no"
            ]
        except UserError as error:
            print(f"note: {error}", file=sys.stderr)
            said = ["?"] * 4
        kept = "kept aside" if any(is_aside(parent) for parent in path.parents) else ""
        lines.append([str(path.parent), *said, f"{megabytes(path.parent):.1f}", kept])
    return markdown(["run", "method", "preset", "seed", "finished", "MB", ""], lines)


def freeable(folder: Path) -> list[Path]:
    """Runs that were moved aside and in which nobody is at work, parts of files that nobody writes, and damaged checkpoints."""
    aside = [path.parent for path in sorted(folder.rglob(ASIDE)) if is_aside(path.parent)]
    aside = [path for path in aside if all(holder(lock) is None for lock in path.rglob(".*.lock"))]
    dead = [path for path in sorted(folder.rglob(".*.part")) if path.is_file()]
    dead = [path for path in dead if time.time() - path.stat().st_mtime > UNTOUCHED_S]
    damaged = [path for path in sorted(folder.rglob("checkpoint.pt.damaged.*")) if path.is_file()]
    found = [*aside, *dead, *damaged]
    return [path for path in found if not any(parent in aside for parent in path.parents)]


def prune(folder: Path, yes: bool) -> None:
    found = freeable(folder)
    sizes = [megabytes(path) for path in found]
    for path, size in zip(found, sizes):
        print(f"{size:10.1f} MB  {path}")
        if yes:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{sum(sizes):10.1f} MB  {'freed' if yes else 'would be freed; --yes frees them'}")


def main() -> None:
    made = argparse.ArgumentParser(prog=prog("common.runs"), description=__doc__, formatter_class=flags.formatter)
    made.add_argument("what", choices=("list", "prune"))
    made.add_argument("folder", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="runs below it [runs]")
    made.add_argument("--yes", action="store_true", help="with prune: free them, not only say which")
    arguments = made.parse_args()
    if not arguments.folder.is_dir():
        raise UserError(f"no folder {arguments.folder}")
    if arguments.what == "prune":
        prune(arguments.folder, arguments.yes)
    else:
        print(runs_table(arguments.folder))


if __name__ == "__main__":
    command(main)
