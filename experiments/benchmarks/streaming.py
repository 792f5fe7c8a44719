"""What limits training on photographs that are decoded as they are read: images a second of each way to read them, and of the step alone.

    python experiments/benchmarks/streaming.py --backbone resnet50
    python experiments/benchmarks/streaming.py --folder PATH        # your own images, in class folders

Without --folder, JPEGs of 500 x 375 pixels are generated for the time of the run. All ways give random resized crops with flips and colour jitter.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import at_least, beside, in_turn, parser, pick_device, report, synchroniser
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from common.backbones import build
from common.cli.device import resolve_precision
from common.cli.errors import command
from common.data.datasets import spec_of
from common.data.folders import FolderImages, worker_count
from common.data.formats import folder as folder_of
from common.data.shrink import shrink
from common.data.transforms import Transform
from common.training.augment import Augmentation

BASE = "torchvision: ImageFolder, PIL transforms"


def write_photographs(folder: Path, count: int) -> None:
    """`count` JPEGs in two class folders, with edges and noise so that they decode at a photograph's cost."""
    for k in range(count):
        rng = np.random.default_rng(k)
        tiles = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse = np.asarray(tiles.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = coarse + rng.integers(-20, 21, (375, 500, 3))
        path = folder / f"class{k % 2}" / f"{k:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def add_photograph_arguments(made: argparse.ArgumentParser, images: int) -> None:
    made.add_argument("--folder", type=Path, default=None, help="class folders of images [generated]")
    made.add_argument("--images", type=int, default=images, metavar="N", help=f"how many to generate [{images}]")


def photographs(arguments: argparse.Namespace, scratch: Path) -> Path:
    """The folder that was given, or one of generated images below `scratch`."""
    if arguments.folder is None:
        write_photographs(scratch / "photographs", arguments.images)
    return arguments.folder or scratch / "photographs"


def torchvision_way(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> Callable[[], int]:
    """ImageFolder with PIL transforms in the workers; an epoch gives its number of images."""
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    drawn = [T.RandomResizedCrop(size, (0.2, 1.0)), T.RandomHorizontalFlip(), jitter, T.ToTensor()]
    loader = DataLoader(ImageFolder(str(folder), T.Compose(drawn)), batch_size, shuffle=True, num_workers=workers)
    return lambda: sum(len(batch.to(device)) for batch, _ in loader)


def our_way(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> Callable[[], int]:
    """Crops in the workers, flips and jitter in batches on the device."""
    raw = folder_of(folder)
    images = FolderImages("photographs", raw.items, raw.names, Transform(size, "resize-crop"), workers=workers)
    how, drawn = Augmentation(crop="none", flip=True, jitter=True), torch.Generator().manual_seed(0)

    def epoch() -> int:
        order, count = torch.randperm(len(images)), 0
        for (pixels,) in images.training_batches(order, batch_size, 0, (0.2, 1.0)):
            draws = how.draw(len(pixels), images.size_px, drawn)
            count += len(how.apply(pixels.to(device), draws)[0])
        return count

    return epoch


def step_alone(backbone: str, size: int, batch_size: int, device: torch.device, steps: int = 4) -> Callable[[], int]:
    model = build(backbone, 100, image_size=size).to(device, memory_format=torch.channels_last).train()
    model.bf16 = resolve_precision("auto", device) == "bf16"
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = torch.rand(batch_size, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (batch_size,), device=device)

    def run() -> int:
        for _ in range(steps):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return steps * batch_size

    return run


def main() -> None:
    made = parser(__file__, __doc__, rounds=3)
    add_photograph_arguments(made, 512)
    made.add_argument("--image-size", type=int, default=224, metavar="PX", help="side of the crops [224]")
    made.add_argument("--short-side", type=int, default=256, metavar="PX", help="of the smaller copy [256]")
    made.add_argument("--backbone", default="resnet50", help="whose step is timed [resnet50]")
    made.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a step [64]")
    workers = worker_count()
    made.add_argument("--workers", type=int, default=workers, metavar="N", help=f"decoding processes [{workers}]")
    arguments = made.parse_args()
    size, batch, short = arguments.image_size, arguments.batch_size, arguments.short_side
    at_least(2, images=arguments.images)
    at_least(1, rounds=arguments.rounds, batch_size=batch)
    device = pick_device(arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        folder, copy = photographs(arguments, Path(scratch)), Path(scratch) / "small"
        shrink(spec_of(f"folder:{folder}"), folder.parent, copy, short, progress=False)
        read = (size, batch, arguments.workers, device)
        ways = {
            BASE: torchvision_way(folder, *read), "ours: crop in workers, rest in batches": our_way(folder, *read),
            f"ours, smaller copy (short side {short})": our_way(copy / folder.name, *read),
            f"training step of {arguments.backbone} alone": step_alone(arguments.backbone, size, batch, device),
        }  # fmt: skip
        found = in_turn(ways, arguments.rounds, settle=synchroniser(device), progress=not arguments.quiet)
    setting = f"{size} px, batch {batch}, {arguments.workers} workers, {arguments.rounds} rounds"
    header = ["way", "images/s", "ratio to torchvision", "range over rounds"]
    report(setting, device, (header, beside(found.rates(), BASE, decimals=0)))


if __name__ == "__main__":
    command(main)
