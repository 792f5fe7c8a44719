"""python -m common.data list | found | fetch | verify | shrink | table: what is there, get it, check it, write a smaller copy, write docs/datasets.md."""

import argparse
import os
import sys
from pathlib import Path

from common.cli.errors import UserError, command
from common.data import fetch, shrink, table, verify
from common.data.datasets import SPECS, Spec, spec_of


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.what == "need":
        return _need(arguments)
    specs = [spec_of(name) for name in arguments.names] or list(SPECS.values())
    {"list": _list, "found": _found, "fetch": _fetch, "verify": _verify, "shrink": _shrink, "table": _table}[
        arguments.what
    ](specs, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m common.data", description=__doc__)
    parser.add_argument(
        "what",
        choices=("list", "found", "need", "fetch", "verify", "shrink", "table"),
        help="found: the names of those that are there; need: an error that names those that are not, NAME/train for a set to train on",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets [fetch: none; list and verify: all]")
    root = Path(os.environ.get("OOD_DATA", "data"))
    parser.add_argument(
        "--data", type=Path, default=root, metavar="ROOT", help=f"folder of all sets [$OOD_DATA or data: {root}]"
    )
    parser.add_argument(
        "--id",
        default="cifar10",
        metavar="NAME",
        help="look for this set's test images in the others, where it is there [cifar10]",
    )
    parser.add_argument("--record", action="store_true", help="verify: write the record of each set's files anew")
    parser.add_argument(
        "--to",
        type=Path,
        default=None,
        metavar="ROOT",
        help="shrink: root of the smaller copy, to be used as --data ROOT",
    )
    parser.add_argument(
        "--short-side",
        type=int,
        default=256,
        metavar="PX",
        help="shrink: pixels of the shorter side; larger images are scaled down [256]",
    )
    parser.add_argument(
        "--quality", type=int, default=95, metavar="Q", help="shrink: of the JPEGs it writes, 1 to 100 [95]"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/datasets.md"), help="table: the page to write [docs/datasets.md]"
    )
    return parser


def _list(specs: list[Spec], arguments: argparse.Namespace) -> None:
    for spec in specs:
        print(f"{spec.name:<20} {table.state(spec, arguments.data):<34} {spec.licence}")


def _found(specs: list[Spec], arguments: argparse.Namespace) -> None:
    print(" ".join(spec.name for spec in specs if spec.found(arguments.data) is not None))


def _need(arguments: argparse.Namespace) -> None:
    """By file names alone, so that a script can ask before hours of training."""
    missing = []
    for word in arguments.names:
        name, _, split = word.partition("/")
        spec = spec_of(name)
        state = table.state(spec, arguments.data)
        if not state.startswith(("found", "in ")) and not (state == "test set only" and split != "train"):
            missing.append(f"{name} ({state}): {spec.how_to_get(arguments.data)}")
    if missing:
        raise UserError(f"not below {arguments.data}:\n  " + "\n  ".join(missing))


def _fetch(specs: list[Spec], arguments: argparse.Namespace) -> None:
    if not arguments.names:
        raise UserError(f"fetch which? {', '.join(SPECS)}")
    failed = []
    for spec in specs:  # one dead link does not keep the others from coming
        try:
            origins = fetch.fetch(spec, arguments.data)
        except UserError as error:
            failed.append(str(error))
            continue
        for name, vouched in origins.items():
            print(f"{spec.name}: {name}, {vouched or 'its content was there already'}", flush=True)
        known = all(origins.values())  # files that were there already may come from anywhere
        origin = (
            "; ".join(f"from {name}, {vouched}" for name, vouched in origins.items()) if known else "first verification"
        )
        report = verify.verify(spec, arguments.data, origin=origin)
        print(report.line, flush=True)
        failed += [f"{spec.name}: {problem}" for problem in report.problems]
    if failed:
        raise UserError("\nerror: ".join(failed))


def _verify(specs: list[Spec], arguments: argparse.Namespace) -> None:
    spec_of(arguments.id)
    against = verify.id_test(arguments.id, arguments.data) if spec_of(arguments.id).found(arguments.data) else None
    if against is None:
        print(
            f"{arguments.id} is not below {arguments.data}: no search for its images in the OOD sets", file=sys.stderr
        )
    reports = []
    for spec in specs:
        reports.append(verify.verify(spec, arguments.data, against=against, record=arguments.record))
        print(reports[-1].line, flush=True)
    # A set that was asked for by name must be there; in a round over all sets an absent one is no fault.
    if any(report.problems or (report.is_missing and arguments.names) for report in reports):
        sys.exit(1)


def _shrink(specs: list[Spec], arguments: argparse.Namespace) -> None:
    if not arguments.names or arguments.to is None:
        raise UserError("shrink needs names of sets and --to ROOT")
    for spec in specs:
        counts = shrink.shrink(spec, arguments.data, arguments.to, arguments.short_side, arguments.quality)
        print(
            f"{spec.name}: "
            + ", ".join(f"{count:,} {what}" for what, count in counts.items())
            + f"; use it with --data {arguments.to}"
        )


def _table(specs: list[Spec], arguments: argparse.Namespace) -> None:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table.page())
    print(arguments.out)


if __name__ == "__main__":
    command(main)
