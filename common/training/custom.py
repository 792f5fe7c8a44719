"""The preset "custom": for images of one's own, a recipe that follows from them and the network. Its rules are this suite's, no paper's.

What is derived is said on stderr, stands in the recipe, and gives way to a flag.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from common.backbones import spec
from common.backbones.classifier import Normalise
from common.cli.errors import UserError
from common.data.datasets import read
from common.data.decoding import read as content
from common.data.formats import draw
from common.data.listing import File, formats
from common.data.notes import note
from common.data.own import OWN
from common.data.transforms import Transform, default_transform
from common.training.method import Given, Preset, Training
from common.training.recipe import TrainRecipe

CUSTOM = "custom"
SMALL_PX, SMALL_NETWORK, LARGE_NETWORK = 64, "resnet18", "resnet50"
LARGE_FROM_PX = 96  # a network that is meant for images as large as this gets them at its own size
LOOKED_AT = 200  # images whose size is read


@dataclass(frozen=True)
class CustomRecipe(TrainRecipe):
    """A TrainRecipe with what the images and the network said beside: these fields have no flag."""

    image_size: int = 0  # pixels
    mean: tuple[float, ...] = ()  # what the network normalises by, of images in [0, 1]
    std: tuple[float, ...] = ()


RECIPE = TrainRecipe(schedule="one-cycle", nesterov=True, area_low=0.3)
PRESET = Preset("", "", RECIPE, "ours: follows from the images and the network")


def fitted(preset: Preset, own: dict[str, Any], root: Path, network: str | None) -> Preset:
    """The preset with set, network and transform. Raises UserError where no set is given."""
    if not own["id"]:
        raise UserError(f"{CUSTOM} needs the images to train on: --id SET, as --id folder:PATH (docs/datasets.md)")
    side = typical_side(own["id"], root)
    backbone = network or own["backbone"] or (SMALL_NETWORK if side <= LARGE_FROM_PX else LARGE_NETWORK)
    return replace(preset, id_set=own["id"], backbone=backbone, transform=transform_for(own["id"], backbone, side))


def transform_for(id_set: str, backbone: str, side: float | int) -> Transform:
    """Small networks see the images' own size, between 16 and 64 px, in steps of 8; large ones the size they are meant for."""
    meant_for = spec(backbone).image_size
    if meant_for >= LARGE_FROM_PX:
        return Transform(meant_for, "resize-crop", round(meant_for * 256 / 224))
    if id_set.partition(":")[0] not in OWN:
        return default_transform(id_set, SMALL_PX if side > SMALL_PX else None)
    return Transform(min(SMALL_PX, max(16, int(side) // 8 * 8)))


def typical_side(id_set: str, root: Path) -> float | int:
    """Median length in pixels of the shorter sides of (200 of) the training images; those whose header cannot be read do not count."""
    if id_set.partition(":")[0] not in OWN:
        return default_transform(id_set).size_px
    raw = read(id_set, "train", root)
    rows = draw(raw.names, min(LOOKED_AT, len(raw)), seed=0)
    sides = [side for row in rows if (side := shorter_side(raw.items[row]))]
    return statistics.median(sides) if sides else SMALL_PX


def shorter_side(file: File) -> int:
    """In pixels; 0 where the file is no image, which is for those to say who decode it."""
    try:
        with Image.open(BytesIO(content(file)), formats=formats()) as image:
            return min(image.size)
    except Exception:  # as many kinds as there are formats
        return 0


def settled(given: Given, made: Training) -> Training:
    """The run with the fields that were not given: batch, length, rate and crop by the number and size of its images, and how it begins."""
    images, recipe = made.images, made.recipe
    size_px, start = max(images.size_px), str(given.start_facts.get("start", "from scratch"))
    is_scratch, from_others = given.start is None and not given.own.get("weights"), start != "from scratch"
    batch_size = given.changes.get("batch_size") or batch_of(len(images), size_px)
    derived = {
        "batch_size": batch_size,
        "epochs": epochs_of(len(images), batch_size, is_scratch),
        "lr": rate_of(batch_size, is_scratch, from_others or bool(given.own.get("weights"))),
        "crop": "resized" if size_px > SMALL_PX else "pad",
    }
    if "crop" in given.changes or type(recipe).__dataclass_fields__["crop"].metadata["options"] == ("none",):
        del derived["crop"]  # the method has a way of its own
    recipe = replace(recipe, **(derived | given.changes))
    if not given.method.from_checkpoint:
        stats = normalised(given, made)
        if type(recipe) is TrainRecipe:  # another objective's has fields of its own
            recipe = CustomRecipe(**vars(recipe), image_size=size_px, **stats)
    made = replace(made, recipe=recipe)
    say(given, made, derived)
    return made


def batch_of(images: int, size_px: int) -> int:
    """An eighth of the images, from 8 to 64, or to 32 where they are large."""
    return min(images, 64 if size_px <= SMALL_PX else 32, max(8, images // 8))


def epochs_of(images: int, batch_size: int, is_scratch: bool) -> int:
    """4,000 steps from scratch, at least 10 and at most 200 passes; 1,000 from a trained network, 3 to 30 passes."""
    steps, least, most = (4000, 10, 200) if is_scratch else (1000, 3, 30)
    return min(most, max(least, round(steps * batch_size / images)))


def rate_of(batch_size: int, is_scratch: bool, from_others: bool) -> float:
    """0.1 a batch of 128 from scratch, half of it from a network that was, a tenth from others' weights; in proportion to the batch."""
    rate = 0.1 if is_scratch else 0.01 if from_others else 0.05
    return float(f"{rate * batch_size / 128:.2g}")


def normalised(given: Given, made: Training) -> dict[str, tuple[float, ...]]:
    """Mean and std of the network, which is given those of its weights where they come from elsewhere and have some."""
    stats = spec(made.model.name).stats if given.own.get("weights") else None
    if stats:
        made.model.normalise = Normalise(stats)
    values = {name: getattr(made.model.normalise, name).flatten().tolist() for name in ("mean", "std")}
    return {name: tuple(round(value, 6) for value in of) for name, of in values.items()}


def say(given: Given, made: Training, derived: Iterable[str]) -> None:
    """What was derived, and nothing that a flag gave."""
    recipe, shown = made.recipe, [*derived, *(name for name in ("delta", "mu") if hasattr(made.recipe, name))]
    words = [f"{max(made.images.size_px)} px"]
    if not given.method.from_checkpoint:
        mean, std = (
            " ".join(f"{x:.3f}" for x in getattr(made.model.normalise, of).flatten()) for of in ("mean", "std")
        )
        words.append(f"normalised by mean {mean}, std {std}")
    for name in shown:
        value, said = getattr(recipe, name), name.replace("_", " ")
        if name not in given.changes and not (name == "epochs" and recipe.steps):
            words.append(f"{said} {value}" if isinstance(value, str) else f"{said} {value:g}")
    note(f"{CUSTOM}, from {len(made.images):,} images and {made.model.name}: {', '.join(words)}")
