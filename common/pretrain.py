"""Train a classifier on an in-distribution set: with cross-entropy the network both methods start from, with another objective a baseline.

    python -m common.pretrain cifar10 --out runs/cifar10/pretrain-0
    python -m common.pretrain cifar10 --backbone wrn28-10 --out runs/wrn/pretrain-0
    python -m common.pretrain cifar10 --objective mine:Loss --out runs/mine/pretrain-0     the class Loss in mine.py; see docs/adding.md

Kill it at any moment and type the same command again: it goes on, and on a CPU ends with the same tensors as an undisturbed run.
"""

import argparse
import sys

from common.cli.errors import command
from common.objectives import METHODS, method_named
from common.training import command as training
from common.training.method import Method


def main() -> None:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_objective_argument(first)
    asked, _ = first.parse_known_args(sys.argv[1:])
    methods = chosen_by_preset() if asked.objective is None else (method_named(asked.objective),)
    training.main(parser(methods), methods)


def chosen_by_preset() -> tuple[Method, ...]:
    """The methods that need no --objective, for they have presets of names that no other before them has, and are not asked for by name alone."""
    methods: dict[str, Method] = {}
    for method in (method for method in METHODS.values() if not method.by_name):
        methods = {name: method for name in method.presets} | methods
    return tuple(method for method in METHODS.values() if method in methods.values())


def parser(methods: tuple[Method, ...] | None = None) -> argparse.ArgumentParser:
    """With the flags of these methods, else of those that need no --objective."""
    made = training.parser(methods or chosen_by_preset(), "common.pretrain", __doc__)
    add_objective_argument(made)
    return made


def add_objective_argument(parser: argparse.ArgumentParser) -> None:
    known = f"{', '.join(METHODS)}, or module:Class [the preset's]; with --help, its flags and presets"
    parser.add_argument("--objective", default=None, metavar="NAME", help=known)


if __name__ == "__main__":
    command(main)
