"""What LBF adds to a training step: plain cross-entropy, LBF live, LBF frozen, in turn in one process.

python experiments/benchmarks/lbf_step.py --backbone resnet34
"""

import argparse
import time

import numpy as np
import torch

from common.backbones import BACKBONES, build, spec
from common.cli import flags, provenance
from common.cli.device import resolve_precision
from common.cli.errors import UserError, command
from common.objectives.cross_entropy import CrossEntropy
from common.results.tables import markdown
from common.training.distributed import device_of
from common.training.engine import make_optimizer
from common.training.objective import Batch, Clock, Objective
from common.training.recipe import TrainRecipe
from lbf.finetune import LBF, LBFRecipe


def step(model, objective: Objective, optimizer, batch: Batch, clock: Clock) -> float:
    """Seconds of one optimizer step."""
    started = time.perf_counter()
    loss, _ = objective(model, batch, clock)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if batch.images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/lbf_step.py", description=__doc__, formatter_class=flags.formatter
    )
    made.add_argument("--backbone", default="resnet34", help=f"{', '.join(BACKBONES)} or timm:NAME [resnet34]")
    made.add_argument("--classes", type=int, default=10, help="K [10]")
    made.add_argument("--batch-size", type=int, default=128, help="images a step [128]")
    made.add_argument("--rounds", type=int, default=10, help="timed rounds; each runs all three once [10]")
    made.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto", help="of the body [auto]")
    flags.add_device_argument(made)
    arguments = made.parse_args()
    if arguments.rounds < 1 or arguments.batch_size < 1:
        raise UserError(f"rounds and batch-size must be >= 1, got {arguments.rounds} and {arguments.batch_size}")
    device, size = device_of(arguments), spec(arguments.backbone).image_size
    torch.manual_seed(0)
    model = build(arguments.backbone, arguments.classes).to(device, memory_format=torch.channels_last).train()
    model.bf16 = resolve_precision(arguments.precision, device) == "bf16"
    images = torch.rand(1, arguments.batch_size, 3, size, size, device=device)
    labels = torch.randint(0, arguments.classes, (arguments.batch_size,), device=device)
    batch, clock = Batch(images, labels, labels), Clock(0, 1, 0, 1, torch.Generator(device))
    objectives = {
        "cross-entropy": CrossEntropy(),
        "LBF live": LBF(LBFRecipe(), model),
        "LBF frozen": LBF(LBFRecipe(selector="frozen"), model),
    }
    optimizer = make_optimizer(model, CrossEntropy(), TrainRecipe(lr=1e-6))
    times: dict[str, list[float]] = {name: [] for name in objectives}
    for round_ in range(arguments.rounds + 1):
        for name, objective in objectives.items():
            seconds = step(model, objective, optimizer, batch, clock)
            if round_:  # the first is a warm-up
                times[name].append(seconds)
    plain = np.array(times["cross-entropy"])
    lines = []
    for name, seconds in times.items():
        ratios = np.array(seconds) / plain
        lines.append(
            [
                name,
                f"{1000 * np.median(seconds):.1f}",
                f"{np.median(ratios):.3f}",
                f"{ratios.min():.3f} to {ratios.max():.3f}",
            ]
        )
    print(
        f"{arguments.backbone}, {size} px, batch {arguments.batch_size}, K = {arguments.classes}, {'bf16' if model.bf16 else 'float32'}, {provenance.hardware(device)}\n"
    )
    print(markdown(["step", "median ms", "ratio to cross-entropy", "range over rounds"], lines))


if __name__ == "__main__":
    command(main)
