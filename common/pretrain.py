"""Train a classifier on an in-distribution set with cross-entropy: the network both methods start from.

    python -m common.pretrain cifar10 --out runs/cifar10/pretrain-0
    python -m common.pretrain cifar10 --backbone wrn28-10 --out runs/wrn/pretrain-0

Kill it at any moment and type the same command again: it goes on, and on a CPU ends with the same tensors as an undisturbed run.
"""

import argparse
from dataclasses import dataclass, fields, replace

import torch

from common.backbones import BACKBONES, build
from common.backbones.classifier import (
    CIFAR10_STATS,
    CIFAR100_STATS,
    HALF_STATS,
    IMAGENET_STATS,
    Classifier,
    Normalise,
    Stats,
)
from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.recipes import add_arguments, choice, from_arguments, number, numbers, pick, switch
from common.data.datasets import training_images
from common.data.transforms import DFB, Transform, default_transform
from common.objectives.cross_entropy import CrossEntropy
from common.objectives.mixup import Mixup
from common.training.augment import Augmentation
from common.training.distributed import device_of
from common.training.engine import fit
from common.training.recipe import TrainRecipe, prepare_recipe
from common.training.seeds import derive


@dataclass(frozen=True)
class BiTRecipe(TrainRecipe):
    """Fine-tuning of a large network on enlarged images, with mixup and a head of zeros (DFB section 4.1; BiT's rule)."""

    drop_last: bool = switch(False, why="drop an epoch's last, incomplete batch; kept in DFB's code")
    lr: float = number(0.003, low=0, why="highest learning rate; DFB")
    weight_decay: float = number(0.0, low=0, why="L2; 0 as in BiT's rule and DFB's code")
    drops: tuple[float, ...] = numbers(
        (0.3, 0.6, 0.9), low=0, high=1, why="shares of the run after which the rate is divided by 10; DFB"
    )
    warmup_steps: int = number(500, low=0, why="steps of linear warm-up from 0; BiT's rule and DFB's code")
    crop: str = choice(
        "window", ("window", "none"), why="random part of the enlarged image, or images at their final size; DFB"
    )
    resize_px: int = number(160, low=8, why="side images are resized to before crop window, pixels; DFB")
    mixup: float = number(0.1, low=0, why="alpha of Beta(alpha, alpha), one share a batch; 0 = none; DFB 0.1")
    window_px: int = 0  # the network's input side; set by the command

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(crop=self.crop, window_px=self.window_px, flip=self.flip, jitter=self.jitter)


@dataclass(frozen=True)
class Preset:
    """A data set, the network that is usual for it, and a recipe."""

    id_set: str
    backbone: str
    recipe: TrainRecipe
    source: str
    transform: Transform | None = None  # of every image that is scored; None = the set's own


_TAGFOG = TrainRecipe(lr=0.05, weight_decay=1e-4, drops=(0.5, 0.75, 0.9), crop="resized", jitter=True)
_CIDER = TrainRecipe(epochs=100, batch_size=256, weight_decay=1e-4, drops=(0.5, 0.75, 0.9), crop="resized", jitter=True)
_QUICK = TrainRecipe(epochs=8, schedule="one-cycle", lr=0.2, nesterov=True)
PRESETS: dict[str, Preset] = {
    "cifar10": Preset("cifar10", "resnet34", TrainRecipe(jitter=True), "LBF section 4.1; epochs, rate and decay from LogitNorm's public code"),
    "cifar100": Preset("cifar100", "resnet34", TrainRecipe(jitter=True), "as cifar10"),
    "imagenet100": Preset("imagenet100", "resnet50", _TAGFOG, "LBF section 4.1; epochs, rate and decay from TagFog's public code"),
    "imagenet100-short": Preset("imagenet100", "resnet50", TrainRecipe(epochs=100, batch_size=256, weight_decay=1e-4, drops=(0.3, 0.6, 0.9), crop="resized", jitter=True), "customary, cheaper"),
    "cifar10-cider": Preset("cifar10", "resnet34", _CIDER, "the cross-entropy script of CIDER's public code"),
    "cifar100-cider": Preset("cifar100", "resnet34", _CIDER, "the cross-entropy script of CIDER's public code"),
    "cifar10-quick": Preset("cifar10", "resnet18", _QUICK, "ours: minutes, for trying things out"),
    "cifar100-quick": Preset("cifar100", "resnet18", _QUICK, "ours: minutes, for trying things out"),
    "dfb-cifar10": Preset("cifar10", "bit-r50x1", BiTRecipe(steps=20_000), "DFB section 4.1, stage 1", DFB),
    "dfb-cifar100": Preset("cifar100", "bit-r50x1", BiTRecipe(steps=20_000), "DFB section 4.1, stage 1", DFB),
    "shapes": Preset("shapes", "resnet8", TrainRecipe(epochs=12, schedule="one-cycle", precision="float32"), "ours: the generated benchmark"),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    lines = [
        f"  {name:18} {p.id_set}, {p.backbone}: {f'{p.recipe.steps} steps' if p.recipe.steps else f'{p.recipe.epochs} epochs'}, lr {p.recipe.lr:g}, batch {p.recipe.batch_size}. {p.source}"
        for name, p in PRESETS.items()
    ]
    made = argparse.ArgumentParser(
        prog="python -m common.pretrain",
        description=__doc__ + "\npresets:\n" + "\n".join(lines),
        formatter_class=flags.formatter,
    )
    made.add_argument("preset", help="a name from the list above")
    made.add_argument(
        "--id",
        metavar="SET",
        default=None,
        help="train on this set instead of the preset's (see python -m common.data list)",
    )
    made.add_argument("--backbone", default=None, help=f"{', '.join(BACKBONES)} or timm:NAME [the preset's]")
    made.add_argument(
        "--weights",
        default=None,
        metavar="FILE",
        help='start weights of the body: a file, or "hub" to fetch them [none: from scratch]',
    )
    made.add_argument(
        "--image-size",
        type=int,
        default=None,
        metavar="PX",
        help="side of the images, in pixels [the set's: 32, 48 or 224]",
    )
    flags.add_run_arguments(made)
    add_arguments(made, TrainRecipe)
    add_arguments(made, BiTRecipe, omit=tuple(field.name for field in fields(TrainRecipe)))
    return made


def new_network(backbone: str, images, weights: str | None, seed: int, size: int | None = None) -> Classifier:
    """A network with fresh weights from the run's seed; nothing else draws from torch's global generator here. `size`: of its input, in pixels."""
    size = size or max(images.size_px)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialisation"))
        model = build(backbone, len(images.classes), weights=weights, image_size=size)
    stats = STATS.get(images.name.split(":")[0]) or measured_stats(images)
    model.normalise = Normalise(stats)
    return model


def measured_stats(images) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel over (at most 10,000 of) the training images, in [0, 1]."""
    total, squares, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
    for pixels in images.batches(500):
        values = pixels.cpu().double() / 255
        total, squares = total + values.sum((0, 2, 3)), squares + values.square().sum((0, 2, 3))
        count += values.numel() // 3
        if count >= 10_000 * values.shape[-1] * values.shape[-2]:
            break
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-8).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def own_arguments(arguments: argparse.Namespace, preset: Preset) -> TrainRecipe:
    """The preset's recipe with the flags given. Raises UserError for a flag that only presets of the other kind have."""
    for name in ("mixup", "resize_px"):
        if hasattr(arguments, name) and not hasattr(preset.recipe, name):
            raise UserError(
                f"--{name.replace('_', '-')} belongs to the presets dfb-cifar10 and dfb-cifar100, not to {arguments.preset}"
            )
    return from_arguments(arguments, preset.recipe)


def scored_transform(preset: Preset, id_set: str, image_size: int | None) -> Transform:
    """How every image that is scored reaches the network's size."""
    if preset.transform is None:
        return default_transform(id_set, image_size)
    return preset.transform if image_size is None else replace(preset.transform, size_px=image_size, resize_px=None)


def main() -> None:
    arguments = parser().parse_args()
    preset = pick(PRESETS, arguments.preset)
    id_set = arguments.id or preset.id_set
    device = device_of(arguments)
    recipe = prepare_recipe(own_arguments(arguments, preset), device)
    transform = scored_transform(preset, id_set, arguments.image_size)
    enlarged = replace(transform, size_px=recipe.resize_px, resize_px=None) if recipe.crop == "window" else transform
    if enlarged.size_px < transform.size_px:
        raise UserError(f"resize_px must be >= the images' final side, {transform.size_px}, got {enlarged.size_px}")
    images = training_images(id_set, enlarged, arguments)
    model = new_network(
        arguments.backbone or preset.backbone, images, arguments.weights, arguments.seed, transform.size_px
    )
    if isinstance(recipe, BiTRecipe):
        recipe = replace(recipe, window_px=transform.size_px)
        model.normalise = Normalise(HALF_STATS)
        torch.nn.init.zeros_(model.head.weight), torch.nn.init.zeros_(model.head.bias)
    objective = Mixup(recipe.mixup) if getattr(recipe, "mixup", 0) > 0 else CrossEntropy()
    facts = {
        "method": "pre-trained", "preset": arguments.preset, "id_set": id_set, "classes": list(images.classes),
        "transform": transform.facts(), "limit": arguments.limit, "start": arguments.weights or "from scratch", "data_facts": images.facts,
    }  # fmt: skip
    fit(
        model, objective, images, recipe, run=arguments.out, seed=arguments.seed, device=device,
        facts=facts, save_every_s=arguments.save_every, progress=not arguments.quiet,
    )  # fmt: skip
    print(arguments.out / "checkpoint.pt")


STATS: dict[str, Stats] = {
    "cifar10": CIFAR10_STATS, "cifar100": CIFAR100_STATS, "shapes": HALF_STATS,
    "imagenet100": IMAGENET_STATS, "imagenet100-mcm": IMAGENET_STATS, "imagenet1k": IMAGENET_STATS,
}  # fmt: skip


if __name__ == "__main__":
    command(main)
