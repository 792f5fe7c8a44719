"""Time and peak memory of a dense training step, beside what it could be and what it should be close to.

    python experiments/benchmarks/dense_step.py --backbone bit-r50x1 --classes 10 100 --image-size 128 --batch-size 16

Steps (forward, loss, backward, no optimizer) of one network on random images: "classification" pools and takes a K-class cross-entropy; "dense"
is dfb.dense; "logits first, plain" upsamples K+1 logits with torch's resize and takes torch's cross-entropy; "features first" upsamples the
feature map before the head, as Eq. 4 is written. Kinds of steps take turns, so that a machine that slows down slows all of them. On a CPU
memory is the growth of the process's highest resident size, measured once a kind in a fresh process.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli import flags, provenance
from common.cli.errors import UserError, command
from common.results.tables import markdown
from common.training.distributed import device_of
from dfb.dense import dense_loss


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
    "classification": classification, "dense": dense, "logits first, plain": logits_first, "features first": features_first,
}  # fmt: skip


def _world(options: argparse.Namespace, classes: int) -> tuple[Classifier, Tensor, Tensor]:
    device = device_of(options)
    torch.manual_seed(0)
    model = build(options.backbone, classes + 1).to(device, memory_format=torch.channels_last).train()
    model.bf16 = options.precision == "bf16"
    side = (options.image_size, options.image_size)
    images = torch.rand(options.batch_size, 3, *side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (options.batch_size, 1, 1), device=device)
    targets = torch.where(torch.rand(options.batch_size, *side, device=device) < 0.4, labels, classes)
    targets[:, 0, 0] = labels[:, 0, 0]
    return model, images, targets


def _step(kind: str, model: Classifier, images: Tensor, targets: Tensor) -> float:
    model.zero_grad(set_to_none=True)
    _settle(images)
    started = time.perf_counter()
    KINDS[kind](model, images, targets).backward()
    _settle(images)
    return time.perf_counter() - started


def _settle(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)


def _peak_mib(kind: str, options: argparse.Namespace, classes: int, answer) -> None:
    """Highest memory of one step above what network and images take, put on a queue."""
    torch.set_num_threads(options.threads)
    world = _world(options, classes)
    if world[1].device.type == "cuda":
        before = torch.cuda.memory_allocated()
        _step(kind, *world)
        answer.put((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    before = _status_mib("VmRSS")
    _step(kind, *world)
    answer.put(_status_mib("VmHWM") - before)


def _status_mib(field: str) -> float:
    """From Linux's /proc; elsewhere NaN. (getrusage would give the parent's peak to a fresh process.)"""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":")), float("nan"))


def peak_mib(kind: str, options: argparse.Namespace, classes: int) -> float:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak_mib, args=(kind, options, classes, answer))
    process.start()
    process.join()
    if process.exitcode:
        return float("nan")  # it did not fit, say
    return answer.get()


def measure(options: argparse.Namespace, classes: int) -> list[list[str]]:
    world = _world(options, classes)
    kinds = [kind for kind in KINDS if kind != "features first" or not options.skip_features_first]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for repeat in range(options.repeats + 1):
        for kind in kinds:
            took = _step(kind, *world)
            if repeat:  # the first turn warms up
                seconds[kind].append(took)
    base = statistics.median(seconds["classification"])
    rows = []
    for kind in kinds:
        middle = statistics.median(seconds[kind])
        ratio = statistics.median(a / b for a, b in zip(seconds[kind], seconds["classification"]))
        spread = f"{min(seconds[kind]) * 1e3:.0f}..{max(seconds[kind]) * 1e3:.0f}"
        rows.append(
            [
                f"K = {classes}",
                kind,
                f"{middle * 1e3:.0f}",
                spread,
                f"{ratio:.2f}",
                f"{(middle - base) * 1e3:.0f}",
                f"{peak_mib(kind, options, classes):.0f}",
            ]
        )
    return rows


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/dense_step.py", description=__doc__, formatter_class=flags.formatter
    )
    made.add_argument(
        "--backbone", default="bit-r50x1", metavar="NAME", help="network, as for common.pretrain [bit-r50x1: DFB]"
    )
    made.add_argument(
        "--classes",
        nargs="+",
        type=int,
        default=[10, 100],
        metavar="K",
        help="ID classes; the head has one more [10 100: CIFAR]",
    )
    made.add_argument(
        "--image-size", type=int, default=128, metavar="PX", help="side of images and targets, in pixels [128: DFB]"
    )
    made.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="images a step [16; the paper trains with 128]"
    )
    made.add_argument("--repeats", type=int, default=5, metavar="N", help="timed steps of each kind [5]")
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
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, ... [auto: a GPU where there is one]")
    return made


def main() -> None:
    options = parser().parse_args()
    for name in ("image_size", "batch_size", "repeats", "threads"):
        if getattr(options, name) < 1:
            raise UserError(f"{name} must be >= 1, got {getattr(options, name)}")
    torch.set_num_threads(options.threads)
    print(
        f"{options.backbone}, {options.image_size} px, batch {options.batch_size}, {options.precision}; {provenance.hardware(device_of(options))}"
    )
    print(
        "median of",
        options.repeats,
        "steps after one; ratio: median of each step to the classification step of its turn\n",
        flush=True,
    )
    header = ["classes", "step", "ms", "ms, range", "ratio", "ms more", "peak MiB"]
    rows = [row for classes in options.classes for row in measure(options, classes)]
    print(markdown(header, rows))
    print(provenance.versions(), file=sys.stderr)


if __name__ == "__main__":
    command(main)
