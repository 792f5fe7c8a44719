"""Train a classifier on an in-distribution set with cross-entropy: the network both methods start from.

    python -m common.pretrain cifar10 --out runs/cifar10/pretrain-0
    python -m common.pretrain cifar10 --backbone wrn28-10 --out runs/wrn/pretrain-0

Kill it at any moment and type the same command again: it goes on, and on a CPU ends with the same tensors as an undisturbed run.
"""

import argparse
from dataclasses import dataclass

import torch

from common import runs
from common.backbones import BACKBONES, Classifier, Normalise, build
from common.errors import command
from common.objective import CrossEntropy
from common.recipes import add_arguments, from_arguments, pick
from common.seeds import derive
from common.train import TrainRecipe, fit


@dataclass(frozen=True)
class Preset:
    """A data set, the network that is usual for it, and a recipe."""

    id_set: str
    backbone: str
    recipe: TrainRecipe
    source: str


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
    "shapes": Preset("shapes", "resnet8", TrainRecipe(epochs=12, schedule="one-cycle", precision="float32"), "ours: the generated benchmark"),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    lines = [f"  {name:18} {p.id_set}, {p.backbone}: {p.recipe.epochs} epochs, lr {p.recipe.lr:g}, batch {p.recipe.batch_size}. {p.source}" for name, p in PRESETS.items()]
    made = argparse.ArgumentParser(
        prog="python -m common.pretrain", description=__doc__ + "\npresets:\n" + "\n".join(lines), formatter_class=runs.formatter
    )
    made.add_argument("preset", help="a name from the list above")
    made.add_argument("--id", metavar="SET", default=None, help="train on this set instead of the preset's (see python -m common.data list)")
    made.add_argument("--backbone", default=None, help=f"{', '.join(BACKBONES)} or timm:NAME [the preset's]")
    made.add_argument("--weights", default=None, metavar="FILE", help='start weights of the body: a file, or "hub" to fetch them [none: from scratch]')
    made.add_argument("--image-size", type=int, default=None, metavar="PX", help="side of the images, in pixels [the set's: 32, 48 or 224]")
    runs.add_run_arguments(made)
    add_arguments(made, TrainRecipe)
    return made


def new_network(backbone: str, images, weights: str | None, seed: int) -> Classifier:
    """A network with fresh weights from the run's seed; nothing else draws from torch's global generator here."""
    size = max(images.size_px)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialisation"))
        model = build(backbone, len(images.classes), weights=weights, image_size=size)
    stats = runs.STATS.get(images.name.split(":")[0]) or measured_stats(images)
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


def main() -> None:
    arguments = parser().parse_args()
    preset = pick(PRESETS, arguments.preset)
    id_set = arguments.id or preset.id_set
    device = runs.device_of(arguments)
    recipe = runs.prepare_recipe(from_arguments(arguments, preset.recipe), device)
    transform = runs.default_transform(id_set, arguments.image_size)
    images = runs.training_images(id_set, transform, arguments)
    model = new_network(arguments.backbone or preset.backbone, images, arguments.weights, arguments.seed)
    facts = {
        "method": "pre-trained", "preset": arguments.preset, "id_set": id_set, "classes": list(images.classes),
        "transform": transform.facts(), "limit": arguments.limit, "start": arguments.weights or "from scratch", "data_facts": images.facts,
    }  # fmt: skip
    fit(
        model, CrossEntropy(), images, recipe, run=arguments.out, seed=arguments.seed, device=device,
        facts=facts, save_every_s=arguments.save_every, progress=not arguments.quiet,
    )  # fmt: skip
    print(arguments.out / "checkpoint.pt")


if __name__ == "__main__":
    command(main)
