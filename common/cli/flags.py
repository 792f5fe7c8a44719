"""Flags that several commands share: where data lie, the device, where a training run lives, what is scored and how images pass."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.cli.recipes import add_fields, check, given, number, ranged
from common.cli.steps import add_step_arguments


def formatter(prog: str) -> argparse.RawDescriptionHelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=120)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("OOD_DATA", "data")
    said = f"folder of the data sets [$OOD_DATA or data; now {root.replace('%', '%%')}]"
    parser.add_argument("--data", type=Path, default=Path(root), metavar="DIR", help=said)


def add_corrupt_argument(parser: argparse.ArgumentParser) -> None:
    said = (
        "an image that does not decode: stop, or decode all of them once before and leave such out, each named [stop]"
    )
    parser.add_argument("--on-corrupt", choices=("stop", "skip"), default="stop", help=said)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    said = "auto, cpu, cuda, cuda:1, ... [auto: a GPU where there is one]"
    parser.add_argument("--device", default="auto", help=said)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


@dataclass(frozen=True)
class RunOptions:
    """Where a training run lives, not what it is."""

    out: Path
    data: Path
    seed: int = number(0, low=0, why="the run's one seed; initialisation, order and augmentation derive theirs from it")
    limit: int | None = number(None, low=1, why="train on a class-balanced part of so many images, drawn from seed 0")
    on_corrupt: str = "stop"
    save_every: float = number(
        60.0,
        low=0,
        why="seconds between saves; a killed run goes on from the last, and ends bit for bit as an undisturbed one on a CPU with as many threads",
    )
    device: str = "auto"
    quiet: bool = False
    expect: Sequence[tuple[Path, str]] = ()  # of `making`, as wait
    wait: float | None = None

    def __post_init__(self):
        check(self)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of RunOptions."""
    out = "folder of the run: recipe.json, log.jsonl, checkpoint.pt"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    add_fields(parser, RunOptions)
    add_corrupt_argument(parser)
    add_data_argument(parser)
    add_device_argument(parser)
    add_step_arguments(parser)


def run_options(arguments: argparse.Namespace) -> RunOptions:
    return RunOptions(**given(arguments, RunOptions))


DEFAULT_SCORERS = ("msp", "maxlogit", "energy", "react")


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Which sets and scores, and how images pass."""
    ood = "OOD sets (python -m common.data list), or a table's by its name (lbf-cifar, dfb-cifar10, ...) [for shapes: its own four; else required]"
    parser.add_argument("--ood", nargs="+", metavar="SET", help=ood)
    default = list(DEFAULT_SCORERS)
    said = f"scores, options as knn:k=50; all; own: the method's; papers: those of both papers' tables [{' '.join(default)}]"
    parser.add_argument("--scorers", nargs="+", metavar="NAME", default=default, help=said)
    add_inference_arguments(parser)


def add_inference_arguments(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    """How images pass through a network. `limit`: the default of --limit."""
    cache = "keep features there, keyed by content; a set of more than 2 GiB is memory-mapped from there [not kept]"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=cache)
    batch = {"type": ranged(int, low=1), "default": 250, "metavar": "N", "help": "images a pass [250]"}
    parser.add_argument("--batch-size", **batch)
    precision = {"choices": ("float32", "bf16"), "default": "float32", "help": "of the network's body [float32]"}
    parser.add_argument("--precision", **precision)
    add_limit_argument(parser, limit)
    add_corrupt_argument(parser)
    add_data_argument(parser)
    add_device_argument(parser)


def add_limit_argument(parser: argparse.ArgumentParser, limit: int | None = None) -> None:
    said = f"at most N images of each test set, for trying things out [{limit or 'all'}]"
    parser.add_argument("--limit", type=ranged(int, low=1), default=limit, metavar="N", help=said)


def add_paired_argument(parser: argparse.ArgumentParser) -> None:
    said = "95%% intervals of the differences to the control from N redraws of the images, where raw scores lie beside the results [none]"
    parser.add_argument("--paired", type=ranged(int, low=0), default=0, metavar="N", help=said)


def add_results_arguments(parser: argparse.ArgumentParser) -> None:
    """Where rows and raw scores go."""
    said = "95%% intervals of FPR95 and AUROC from N redraws of the test images, into the CSV [none]"
    parser.add_argument("--bootstrap", type=ranged(int, low=0), default=0, metavar="N", help=said)
    out = "CSV that rows join [results.csv beside the checkpoint]"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    raw = "raw scores as .npz, one array a scorer and set [results.npz beside results.csv]"
    parser.add_argument("--save-scores", type=Path, metavar="FILE", help=raw)
