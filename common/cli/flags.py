"""What every training command shares: its flags for data, output, device and seed, and the images it trains on."""

import argparse
import os
from pathlib import Path


def formatter(prog: str) -> argparse.RawDescriptionHelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=120)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("OOD_DATA", "data")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(root),
        metavar="DIR",
        help=f"folder of the data sets [$OOD_DATA or data; now {root}]",
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, ... [auto: a GPU where there is one]"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say where a training run lives, not what it is."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run: recipe.json, log.jsonl, checkpoint.pt",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the run's one seed; initialisation, order and augmentation derive theirs from it [0]",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=None,
        metavar="N",
        help="train on a class-balanced part of N images, drawn from seed 0 [all]",
    )
    parser.add_argument(
        "--on-corrupt",
        choices=("stop", "skip"),
        default="stop",
        help="an image of a streamed set that does not decode: stop the run, or take another of its class and say so [stop]",
    )
    parser.add_argument(
        "--save-every",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds between saves; a killed run goes on from the last [60]",
    )
    add_data_argument(parser)
    add_device_argument(parser)
