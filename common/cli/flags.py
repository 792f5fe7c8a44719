"""Flags that commands share: data, output, device, seed."""

import argparse
import os
from dataclasses import dataclass, fields
from pathlib import Path


def formatter(prog: str) -> argparse.RawDescriptionHelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=120)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("OOD_DATA", "data")
    said = f"folder of the data sets [$OOD_DATA or data; now {root}]"
    parser.add_argument("--data", type=Path, default=Path(root), metavar="DIR", help=said)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, ... [auto: a GPU where there is one]"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say where a training run lives, not what it is."""
    out = "folder of the run: recipe.json, log.jsonl, checkpoint.pt"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    seed = "the run's one seed; initialisation, order and augmentation derive theirs from it [0]"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    limit = "train on a class-balanced part of N images, drawn from seed 0 [all]"
    parser.add_argument("--limit", type=int, default=None, metavar="N", help=limit)
    corrupt = (
        "an image of a streamed set that does not decode: stop the run, or take another of its class and say so [stop]"
    )
    parser.add_argument("--on-corrupt", choices=("stop", "skip"), default="stop", help=corrupt)
    save = "seconds between saves; a killed run goes on from the last [60]"
    parser.add_argument("--save-every", type=float, default=60.0, metavar="S", help=save)
    add_data_argument(parser)
    add_device_argument(parser)


@dataclass(frozen=True)
class RunOptions:
    """Where a training run lives, not what it is: the values of `add_run_arguments`."""

    out: Path
    data: Path
    seed: int = 0
    limit: int | None = None
    on_corrupt: str = "stop"
    save_every: float = 60.0
    device: str = "auto"
    quiet: bool = False


def run_options(arguments: argparse.Namespace) -> RunOptions:
    return RunOptions(**{field.name: getattr(arguments, field.name) for field in fields(RunOptions)})
