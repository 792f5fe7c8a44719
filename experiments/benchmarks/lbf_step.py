"""What LBF adds to a training step: plain cross-entropy, LBF live, LBF frozen, in turn in one process.

python experiments/benchmarks/lbf_step.py --backbone resnet34
"""

from collections.abc import Callable

import torch
from harness import at_least, beside, in_turn, parser, pick_device, report, synchroniser
from torch import nn

from common.backbones import BACKBONES, build, spec
from common.cli.device import resolve_precision
from common.cli.errors import command
from common.objectives.cross_entropy import CrossEntropy
from common.training.engine import make_optimizer
from common.training.objective import Batch, Clock
from common.training.recipe import TrainRecipe
from lbf.finetune import LBF, LBFRecipe

PLAIN = "cross-entropy"


def steps(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[], None]]:
    """One optimizer step under each objective; all train the one network. Images: `views batch 3 height width`."""
    batch, clock = Batch(images, labels, labels), Clock(0, 1, 0, 1, torch.Generator(images.device))
    objectives = {
        PLAIN: CrossEntropy(), "LBF live": LBF(LBFRecipe(), model),
        "LBF frozen": LBF(LBFRecipe(selector="frozen"), model),
    }  # fmt: skip
    optimizer = make_optimizer(model, CrossEntropy(), TrainRecipe(lr=1e-6))

    def step(objective: nn.Module) -> None:
        loss, _ = objective(model, batch, clock)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return {name: lambda objective=objective: step(objective) for name, objective in objectives.items()}


def main() -> None:
    made = parser(__file__, __doc__, rounds=10)
    made.add_argument("--backbone", default="resnet34", help=f"{', '.join(BACKBONES)} or timm:NAME [resnet34]")
    made.add_argument("--classes", type=int, default=10, help="K [10]")
    made.add_argument("--batch-size", type=int, default=128, help="images a step [128]")
    made.add_argument("--precision", choices=("auto", "float32", "bf16"), default="auto", help="of the body [auto]")
    arguments = made.parse_args()
    classes, count = arguments.classes, arguments.batch_size
    at_least(1, rounds=arguments.rounds, batch_size=count, classes=classes)
    device, size = pick_device(arguments.device), spec(arguments.backbone).image_size
    torch.manual_seed(0)
    model = build(arguments.backbone, classes).to(device, memory_format=torch.channels_last).train()
    model.bf16 = resolve_precision(arguments.precision, device) == "bf16"
    images = torch.rand(1, count, 3, size, size, device=device)
    kinds = steps(model, images, torch.randint(0, classes, (count,), device=device))
    found = in_turn(kinds, arguments.rounds, settle=synchroniser(device), progress=not arguments.quiet)
    arithmetic = "bf16" if model.bf16 else "float32"
    setting = f"{arguments.backbone}, {size} px, batch {count}, K = {classes}, {arithmetic}, {arguments.rounds} rounds"
    header = ["step", "median ms", f"ratio to {PLAIN}", "range over rounds"]
    report(setting, device, (header, beside(found.seconds, PLAIN, decimals=1, scale=1e3)))


if __name__ == "__main__":
    command(main)
