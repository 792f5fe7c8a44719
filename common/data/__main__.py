"""Data sets: what is there, get it, check it, write a smaller copy, write docs/datasets.md.

python -m common.data list | found | need | fetch | verify | shrink | table
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.outputs import check_outputs
from common.cli.recipes import ranged
from common.data import fetch, table
from common.data.own import OWN
from common.data.specs import BENCHMARKS, SPECS, Spec, expand, spec_of


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog("common.data"), description=__doc__)
    words = ("list", "found", "need", "fetch", "verify", "shrink", "table")
    said = "found: the names of those that are there; need: an error that names those that are not, NAME/train for a set to train on"
    made.add_argument("what", choices=words, help=said)
    made.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"sets, or {', '.join(BENCHMARKS)} for those of a table [fetch: none; list and verify: all]",
    )
    root = Path(os.environ.get("OOD_DATA", "data"))
    made.add_argument(
        "--data",
        type=Path,
        default=root,
        metavar="ROOT",
        help=f"folder of all sets [$OOD_DATA or data: {str(root).replace('%', '%%')}]",
    )
    said = "look for this set's test images in the others, where it is there [cifar10]"
    made.add_argument("--id", default="cifar10", metavar="NAME", help=said)
    made.add_argument("--record", action="store_true", help="verify: write the record of each set's files anew")
    made.add_argument(
        "--to", type=Path, metavar="ROOT", help="shrink: root of the smaller copy, to be used as --data ROOT"
    )
    said = "shrink: pixels of the shorter side; larger images are scaled down [256]"
    made.add_argument("--short-side", type=ranged(int, low=1), default=256, metavar="PX", help=said)
    made.add_argument(
        "--quality",
        type=ranged(int, low=1, high=100),
        default=95,
        metavar="Q",
        help="shrink: of the JPEGs it writes, 1 to 100 [95]",
    )
    made.add_argument(
        "--out", type=Path, default=Path("docs/datasets.md"), help="table: the page to write [docs/datasets.md]"
    )
    return made


def main() -> None:
    given = parser().parse_args()
    root, given.names = given.data, expand(given.names)
    if given.what == "need":  # names with a split
        return need(given.names, root)
    named = [spec_of(name) for name in given.names]
    specs = named or list(SPECS.values())
    match given.what:
        case "list":
            for spec in specs:
                lacks = fetch.missing(spec, root)
                print(f"{spec.name:<20} {table.state(spec, root):<34} {fetch.size_text(lacks):<36} {spec.licence}")
        case "found":
            print(" ".join(spec.name for spec in specs if spec.found(root) is not None))
        case "fetch":
            fetch_all(named, root)
        case "verify":
            verify_all(specs, root, given.id, given.record, must_exist=bool(named))
        case "shrink":
            if not named or given.to is None:
                raise UserError("shrink needs names of sets and --to ROOT")
            shrink_all(named, root, given.to, given.short_side, given.quality)
        case "table":
            check_outputs([given.out])
            write_atomically(given.out, lambda part: part.write_text(table.page()))
            print(given.out)


def need(words: Sequence[str], root: Path) -> None:
    """Raise UserError unless all sets are there, by file names alone: a script can ask before hours of training."""
    missing = []
    for word in words:
        name, _, split = (word, "", "") if word.partition(":")[0] in OWN else word.partition("/")
        spec = spec_of(name)
        state = table.state(spec, root)
        if not state.startswith(("found", "in ")) and not (state == "test set only" and split != "train"):
            missing.append(f"{name} ({state}): {spec.how_to_get(root)}")
    if missing:
        raise UserError(f"not below {root}:\n  " + "\n  ".join(missing))


def fetch_all(specs: Sequence[Spec], root: Path) -> None:
    """Fetch and verify each set; one dead link does not keep the others from coming."""
    if not specs:
        raise UserError(f"fetch which? {', '.join(SPECS)}")
    from common.data import verify  # reads images, which needs torch

    for spec in specs:
        if lacks := fetch.missing(spec, root):
            print(f"{spec.name}: to fetch {', '.join(lacks)} ({fetch.size_text(lacks)})", file=sys.stderr)
    failed = []
    for spec in specs:
        try:
            origins = fetch.fetch(spec, root)
        except UserError as error:
            failed.append(str(error))
            continue
        for name, vouched in origins.items():
            print(f"{spec.name}: {name}, {vouched or 'its content was there already'}", flush=True)
        said = "; ".join(f"from {name}, {vouched}" for name, vouched in origins.items())
        # files that were there already may come from anywhere
        report = verify.verify(spec, root, origin=said if all(origins.values()) else "first verification")
        print(report.line, flush=True)
        failed += [f"{spec.name}: {problem}" for problem in report.problems]
    if failed:
        raise UserError("\nerror: ".join(failed))


def verify_all(specs: Sequence[Spec], root: Path, id_name: str, record: bool, must_exist: bool) -> None:
    """A line a set; exit code 1 where one is faulty, or absent although it `must_exist`."""
    from common.data import verify

    against = verify.id_test(id_name, root) if spec_of(id_name).found(root) else None
    if against is None:
        print(f"{id_name} is not below {root}: no search for its images in the OOD sets", file=sys.stderr)
    reports = []
    for spec in specs:
        reports.append(verify.verify(spec, root, against=against, record=record))
        print(reports[-1].line, flush=True)
    if any(report.problems or (report.is_missing and must_exist) for report in reports):
        sys.exit(1)


def shrink_all(specs: Sequence[Spec], root: Path, to: Path, short_side: int, quality: int) -> None:
    from common.data import shrink

    for spec in specs:
        counts = shrink.shrink(spec, root, to, short_side, quality)
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        print(f"{spec.name}: {said}; use it with --data {to}")


if __name__ == "__main__":
    command(main)
