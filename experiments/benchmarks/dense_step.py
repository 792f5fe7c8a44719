"""Time and peak memory of a dense training step, beside what it could be and what it should be close to.

    python experiments/benchmarks/dense_step.py --backbone bit-r50x1 --classes 10 100 --image-size 128 --batch-size 16

Steps (forward, loss, backward, no optimizer) of one network on random images: "classification" pools and takes a K-class cross-entropy; "dense"
is dfb.dense; "logits first, plain" upsamples K+1 logits with torch's resize and takes torch's cross-entropy; "features first" upsamples the
feature map before the head, as Eq. 4 is written. Kinds of steps take turns. Memory is what one step adds, in a fresh process for each kind.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from harness import apart, at_least, beside, extent, in_turn, parser, pick_device, report, synchroniser
from torch import Tensor

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import command
from dfb.dense import dense_loss

PLAIN = "classification"


def classification(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(images), targets[:, 0, 0])


def dense(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    return dense_loss(model.local_logits(model.feature_map(images)), targets)


def logits_first(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    local = model.local_logits(model.feature_map(images))
    return F.cross_entropy(F.interpolate(local, size=targets.shape[1:], mode="bilinear"), targets)


def features_first(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    wide = F.interpolate(model.feature_map(images), size=targets.shape[1:], mode="bilinear")
    return F.cross_entropy(model.local_logits(wide), targets)


KINDS: dict[str, Callable[[Classifier, Tensor, Tensor], Tensor]] = {
    PLAIN: classification, "dense": dense, "logits first, plain": logits_first, "features first": features_first,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    backbone: str
    image_size: int
    batch_size: int
    precision: str
    threads: int
    device: str


def world(setting: Setting, classes: int) -> tuple[Classifier, Tensor, Tensor]:
    """Network, images and targets (0 to K-1, background K); the first pixel holds the image's label."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    device = pick_device(setting.device)
    model = build(setting.backbone, classes + 1).to(device, memory_format=torch.channels_last).train()
    model.bf16 = setting.precision == "bf16"
    side = (setting.image_size, setting.image_size)
    images = torch.rand(setting.batch_size, 3, *side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (setting.batch_size, 1, 1), device=device)
    targets = torch.where(torch.rand(setting.batch_size, *side, device=device) < 0.4, labels, classes)
    targets[:, 0, 0] = labels[:, 0, 0]
    return model, images, targets


def step(kind: str, model: Classifier, images: Tensor, targets: Tensor) -> None:
    KINDS[kind](model, images, targets).backward()


def first_step(kind: str, setting: Setting, classes: int) -> Callable[[], None]:
    """Called in a process of its own: what is left to run is one step."""
    return partial(step, kind, *world(setting, classes))


def measure(setting: Setting, classes: int, kinds: list[str], rounds: int, progress: bool) -> list[list[str]]:
    """Lines of the table for one K."""
    model, images, targets = world(setting, classes)
    work = {kind: partial(step, kind, model, images, targets) for kind in kinds}
    free = partial(model.zero_grad, set_to_none=True)
    seconds = in_turn(work, rounds, before=free, settle=synchroniser(images.device), progress=progress).seconds
    lines = []
    for kind, middle, ratio, _ in beside(seconds, PLAIN, decimals=0, scale=1e3):
        more = 1e3 * (np.median(seconds[kind]) - np.median(seconds[PLAIN]))
        found = apart(first_step, kind, setting, classes, device=str(images.device))
        peak = f"{found.grown / 2**20:.0f}" if found else "ended"  # it did not fit, say
        lines.append([f"K = {classes}", kind, middle, extent(1e3 * seconds[kind], 0), ratio, f"{more:.0f}", peak])
    return lines


def add_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("--backbone", default="bit-r50x1", metavar="NAME", help="as for common.pretrain [bit-r50x1: DFB]")
    made.add_argument(
        "--classes",
        nargs="+",
        type=int,
        default=[10, 100],
        metavar="K",
        help="ID classes; the head has one more [10 100: CIFAR]",
    )
    made.add_argument("--image-size", type=int, default=128, metavar="PX", help="side of images and targets [128: DFB]")
    made.add_argument("--batch-size", type=int, default=16, metavar="N", help="images a step [16; the paper: 128]")
    made.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), metavar="N", help="of torch on a CPU [its own choice]"
    )
    made.add_argument(
        "--precision", choices=("float32", "bf16"), default="float32", help="of the network's body [float32]"
    )
    made.add_argument(
        "--skip-features-first",
        action="store_true",
        help="leave it out: it takes 2,048 / (K + 1) times the memory of the others",
    )
    made.add_argument(
        "--repeats", dest="rounds", type=int, default=argparse.SUPPRESS, metavar="N", help="the same as --rounds"
    )


def main() -> None:
    made = parser(__file__, __doc__, rounds=5)
    add_arguments(made)
    arguments = made.parse_args()
    setting = Setting(*(getattr(arguments, name) for name in Setting.__dataclass_fields__))
    at_least(
        1,
        image_size=setting.image_size,
        batch_size=setting.batch_size,
        rounds=arguments.rounds,
        threads=setting.threads,
        classes=min(arguments.classes),
    )
    kinds = [kind for kind in KINDS if kind != "features first" or not arguments.skip_features_first]
    tables = [measure(setting, classes, kinds, arguments.rounds, not arguments.quiet) for classes in arguments.classes]
    header = ["classes", "step", "median ms", "ms, range", f"ratio to {PLAIN}", "ms more", "peak MiB"]
    title = f"{setting.backbone}, {setting.image_size} px, batch {setting.batch_size}, {setting.precision}, {arguments.rounds} rounds"
    report(title, pick_device(setting.device), (header, [line for lines in tables for line in lines]))


if __name__ == "__main__":
    command(main)
