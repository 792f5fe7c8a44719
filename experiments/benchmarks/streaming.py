"""What limits training on photographs that are decoded as they are read: images a second of each way to read them, and of the step alone.

    python experiments/benchmarks/streaming.py --backbone resnet50
    python experiments/benchmarks/streaming.py --folder PATH        # your own images, in class folders

Without --folder, JPEGs of 500 x 375 pixels are generated for the time of the run. All ways give random resized crops with flips and colour jitter.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from common.backbones import build
from common.cli import flags, provenance
from common.cli.device import resolve_precision
from common.cli.errors import UserError, command
from common.data.datasets import spec_of
from common.data.folders import FolderImages, worker_count
from common.data.formats import folder as folder_of
from common.data.shrink import shrink
from common.data.transforms import Transform
from common.results.tables import markdown
from common.training.augment import Augmentation
from common.training.distributed import device_of


def write_photographs(folder: Path, count: int) -> None:
    """`count` JPEGs in two class folders, with edges and noise so that they decode at a photograph's cost."""
    for k in range(count):
        rng = np.random.default_rng(k)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-20, 21, (375, 500, 3))
        path = folder / f"class{k % 2}" / f"{k:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def torchvision_way(folder: Path, size: int, batch_size: int, workers: int, device: torch.device) -> Callable[[], int]:
    """ImageFolder with PIL transforms in the workers."""
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    images = ImageFolder(
        str(folder), T.Compose([T.RandomResizedCrop(size, (0.2, 1.0)), T.RandomHorizontalFlip(), jitter, T.ToTensor()])
    )
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers)
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
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps * batch_size

    return run


def rate(way: Callable[[], int]) -> float:
    """Images a second of one round."""
    started = time.monotonic()
    return way() / (time.monotonic() - started)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/streaming.py", description=__doc__, formatter_class=flags.formatter
    )
    made.add_argument("--folder", type=Path, default=None, help="class folders of images [generated]")
    made.add_argument("--images", type=int, default=512, metavar="N", help="how many to generate [512]")
    made.add_argument("--image-size", type=int, default=224, metavar="PX", help="side of the crops [224]")
    made.add_argument("--short-side", type=int, default=256, metavar="PX", help="of the smaller copy [256]")
    made.add_argument("--backbone", default="resnet50", help="whose step is timed [resnet50]")
    made.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a step [64]")
    made.add_argument(
        "--workers", type=int, default=worker_count(), metavar="N", help=f"decoding processes [{worker_count()}]"
    )
    made.add_argument("--rounds", type=int, default=3, metavar="N", help="each way, in turn; medians are shown [3]")
    flags.add_device_argument(made)
    return made


def main() -> None:
    arguments = parser().parse_args()
    if arguments.images < 2 or arguments.rounds < 1:
        raise UserError(f"images must be >= 2 and rounds >= 1, got {arguments.images} and {arguments.rounds}")
    device, size, batch = device_of(arguments), arguments.image_size, arguments.batch_size
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "photographs"
        if arguments.folder is None:
            write_photographs(folder, arguments.images)
        shrink(
            spec_of(f"folder:{folder}"), folder.parent, Path(scratch) / "small", arguments.short_side, progress=False
        )
        small = Path(scratch) / "small" / folder.name
        ways = {
            "torchvision: ImageFolder, PIL transforms": torchvision_way(folder, size, batch, arguments.workers, device),
            "ours: crop in workers, rest in batches": our_way(folder, size, batch, arguments.workers, device),
            f"ours, smaller copy (short side {arguments.short_side})": our_way(
                small, size, batch, arguments.workers, device
            ),
            f"training step of {arguments.backbone} alone": step_alone(arguments.backbone, size, batch, device),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                rates[name].append(rate(way))
                print(f"{name}: {rates[name][-1]:.0f} images/s", file=sys.stderr)
    base = rates["torchvision: ImageFolder, PIL transforms"]
    lines = []
    for name, found in rates.items():
        ratios = sorted(a / b for a, b in zip(found, base, strict=True))
        lines.append(
            [name, f"{np.median(found):.0f}", f"{np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
        )
    print(f"{size} px, batch {batch}, {arguments.workers} workers, {provenance.hardware(device)}\n")
    print(markdown(["way", "images/s", "ratio to torchvision (range over rounds)"], lines))


if __name__ == "__main__":
    command(main)
