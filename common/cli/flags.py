"""What every training command shares: its flags for data, output, device and seed, and the images it trains on."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from common import data
from common.training import distributed
from common.backbones import CIFAR10_STATS, CIFAR100_STATS, HALF_STATS, IMAGENET_STATS, Stats
from common.data.folders import FolderImages
from common.data.transforms import CIFAR, IMAGENET, Transform
from common.cli.errors import UserError
from common.training.engine import TrainRecipe, pick_device, resolve_precision

R = TypeVar("R", bound=TrainRecipe)

STATS: dict[str, Stats] = {
    "cifar10": CIFAR10_STATS, "cifar100": CIFAR100_STATS, "shapes": HALF_STATS,
    "imagenet100": IMAGENET_STATS, "imagenet100-mcm": IMAGENET_STATS, "imagenet1k": IMAGENET_STATS,
}  # fmt: skip


def formatter(prog: str) -> argparse.RawDescriptionHelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=120)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("OOD_DATA", "data")
    parser.add_argument("--data", type=Path, default=Path(root), metavar="DIR", help=f"folder of the data sets [$OOD_DATA or data; now {root}]")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... [auto: a GPU where there is one]")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say where a training run lives, not what it is."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run: recipe.json, log.jsonl, checkpoint.pt")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the run's one seed; initialisation, order and augmentation derive theirs from it [0]")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="train on a class-balanced part of N images, drawn from seed 0 [all]")
    parser.add_argument("--on-corrupt", choices=("stop", "skip"), default="stop", help="an image of a streamed set that does not decode: stop the run, or take another of its class and say so [stop]")
    parser.add_argument("--save-every", type=float, default=60.0, metavar="S", help="seconds between saves; a killed run goes on from the last [60]")
    add_data_argument(parser)
    add_device_argument(parser)


def default_transform(id_set: str, image_size: int | None = None) -> Transform:
    """The ID test transform of a set: CIFAR 32 px, ImageNet 256 to 224, others a centre crop of the shorter side."""
    if id_set.startswith("imagenet"):
        return IMAGENET if image_size in (None, 224) else Transform(image_size, "resize-crop", round(image_size * 256 / 224))
    if id_set.startswith("shapes"):
        return Transform(image_size or 48, "none" if image_size in (None, 48) else "resize-crop")
    return CIFAR if image_size in (None, 32) else Transform(image_size, "resize-crop")


def transform_from_facts(facts: dict) -> Transform:
    """The transform a checkpoint was trained for: every image that is scored passes it."""
    return Transform(**facts["transform"])


def training_images(id_set: str, transform: Transform, arguments: argparse.Namespace):
    """The ID training set. Raises UserError where it is missing or has no labels."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"limit must be >= 1, got {arguments.limit}")
    images = data.load(id_set, "train", root=arguments.data, transform=transform, limit=arguments.limit)
    if images.labels is None:
        raise UserError(f"{id_set} has no labels; training needs them")
    return replace(images, on_corrupt=getattr(arguments, "on_corrupt", "stop")) if isinstance(images, FolderImages) else images


def prepare_recipe(recipe: R, device: torch.device) -> R:
    """The recipe with "auto" settled for this device."""
    return replace(recipe, precision=resolve_precision(recipe.precision, device))


def device_of(arguments: argparse.Namespace) -> torch.device:
    device = distributed.start(pick_device(arguments.device))
    torch.backends.cudnn.benchmark = device.type == "cuda"
    return device
