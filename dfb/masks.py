"""Pseudo-masks: which pixels of each training image are foreground, by the pre-trained network's class maps (DFB Eq. 1, 2).

    python -m dfb.masks RUN/checkpoint.pt --out MASKS

Writes packed bits and, last, MASKS/manifest.json. Kill it at any moment and type the same command again: it goes on. Where the truth is known
(the generated benchmark; boxes) --score-against says how good the masks are:

    python -m dfb.masks RUN/checkpoint.pt --score-against tiny-imagenet-boxes     # localisation alone; writes no masks
"""

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from common import checkpoint
from common.backbones.classifier import Classifier
from common.backbones.output_stride import set_output_stride
from common.cam import CamRecipe, class_attention
from common.cli import flags
from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.recipes import add_arguments, as_plain, choice, from_arguments, number, pick, ranged
from common.cli.steps import Step, add_step_arguments, making
from common.data import boxes
from common.data.datasets import training_images
from common.data.masks import StoredMasks, damaged_parts, make_masks, read_manifest, read_masks, write_manifest
from common.data.transforms import transform_from_facts
from common.training import distributed
from common.training.distributed import device_of, of_main
from dfb.localisation import agreement, count_masks, pointing
from dfb.refinement import REFINEMENTS, refine


def pseudo_mask(
    attention: Float[Tensor, "batch rows cols"], theta: float, *, strict: bool = False
) -> Bool[Tensor, "batch rows cols"]:
    """True = foreground: where the attention, in [0, 1], reaches theta (Eq. 2). Ties count as foreground, as Eq. 2 has >=.

    `strict` is the released code's >. Raises UserError for a theta outside (0, 1).
    """
    if not 0 < theta < 1:
        raise UserError(f"theta must be in (0, 1), got {theta:g}")
    return attention > theta if strict else attention >= theta


@dataclass(frozen=True)
class MaskRecipe(CamRecipe):
    """A class map and where it is cut."""

    theta: float = number(
        0.5,
        why="attention from which a pixel is foreground, share of the map's maximum, in (0, 1); DFB Eq. 2 and section 4",
    )
    output_stride: int | None = number(
        None,
        low=1,
        why="pixels per location of the network's map, by dilation, without further training. none: as the checkpoint's",
    )
    theta_rel: str = choice(">=", (">=", ">"), why="relation of Eq. 2; > is DFB's code")
    refine: str = choice(
        "none",
        REFINEMENTS,
        why="an extension: grabcut takes the map as seed and finds the object by the image's colours",
    )
    sure_background: float = number(
        0.15,
        low=0,
        high=1,
        why="grabcut: attention below which a pixel is background; by IoU on training images of shapes",
    )
    sure_object: float = number(
        0.95, low=0, high=1, why="grabcut: attention from which a pixel is object; by IoU on training images of shapes"
    )
    refine_iterations: int = number(3, low=1, why="grabcut: rounds of mixtures and cut; ours")

    def __post_init__(self):
        pseudo_mask(torch.zeros(1, 1, 1), float(self.theta))  # first: its message says that the interval is open
        super().__post_init__()
        if self.refine != "none" and not self.sure_background <= self.theta <= self.sure_object:
            said = f"sure_background {self.sure_background:g}, theta {self.theta:g}, sure_object {self.sure_object:g}"
            raise UserError(f"refine {self.refine} needs sure_background <= theta <= sure_object, got {said}")


PRESETS = {
    "paper": MaskRecipe(),
    "released": MaskRecipe(cam_class="predicted", cam_bias=True, cam_blur=4.0, theta_rel=">"),
    "single-scale": MaskRecipe(cam_scales=(1.0,), cam_flip=False),
}


VERSION = 2  # raised when the same network, recipe and images give other masks or counts
AGAINST = ("truth", boxes.NAME)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=prog("dfb.masks"),
        description=__doc__ + "\npresets: " + ", ".join(PRESETS),
        formatter_class=flags.formatter,
    )
    add = made.add_argument
    add("checkpoint", type=Path, help="a finished checkpoint of common.pretrain")
    out = "folder of the masks; without it boxes are scored and nothing is written"
    add("--out", type=Path, default=None, metavar="DIR", help=out)
    add("--preset", default="paper", help="paper, released (DFB's code), single-scale [paper]")
    size = "side of images and masks, in pixels; dense training takes it over [the checkpoint's]"
    add("--image-size", type=ranged(int, low=8), default=None, metavar="PX", help=size)
    limit = "the class-balanced N training images of this limit [the checkpoint's]"
    add("--limit", type=ranged(int, low=1), default=None, metavar="N", help=limit)
    against = '"truth": the masks the set itself has; or tiny-imagenet-boxes (CIFAR-10 networks)'
    add("--score-against", default=None, metavar="WHAT", help=against)
    add("--batch-size", type=ranged(int, low=1), default=125, metavar="N", help="images a pass [125]")
    add("--precision", choices=("float32", "bf16"), default="float32", help="of the network's body [float32]")
    flags.add_data_argument(made)
    flags.add_device_argument(made)
    add_step_arguments(made)
    add_arguments(made, MaskRecipe)
    return made


@dataclass(frozen=True)
class Source:
    """The network that masks are made of, and how images pass it."""

    model: Classifier
    facts: dict[str, Any]
    weights: str  # digest of the checkpoint
    recipe: MaskRecipe
    precision: str
    device: torch.device
    batch_size: int
    data: Path
    progress: bool


class Maker:
    """Attention and masks of the images of one set, by rows."""

    def __init__(self, source: Source, images: Any):
        self.model, self.recipe, self.device = source.model.to(source.device).eval(), source.recipe, source.device
        self.images, self.batch_size, self.made, self.seconds = images, source.batch_size, 0, 0.0
        self.bar = tqdm(
            total=len(images), desc="masks", unit="image", disable=not source.progress, file=sys.stderr, mininterval=1.0,
            leave=False,
        )  # fmt: skip

    def __call__(self, rows: Tensor) -> dict[str, np.ndarray]:
        """For each row its mask, the class predicted at scale 1, the pixel (row by row) where the attention is largest, and whether a refinement
        left the mask as it was."""
        masks, predicted, peaks, kept, started = [], [], [], [], time.monotonic()
        for index, pixels in zip(
            rows.split(self.batch_size), self.images.whole_batches(rows, self.batch_size), strict=True
        ):
            labels = self.images.labels[index.to(self.images.labels.device)].to(self.device)
            attention, guess = class_attention(self.model, pixels.to(self.device).float() / 255, labels, self.recipe)
            found, as_it_was = self.masks_of(pixels, attention)
            masks.append(found)
            kept.append(as_it_was)
            predicted.append(guess.cpu())
            peaks.append(attention.flatten(1).argmax(1).cpu())
            self.bar.update(len(index))
        self.made, self.seconds = self.made + len(rows), self.seconds + time.monotonic() - started
        return {
            "masks": torch.cat(masks).numpy(),
            "predicted": torch.cat(predicted).int().numpy(),
            "peak": torch.cat(peaks).int().numpy(),
            "kept": torch.cat(kept).numpy(),
        }

    def masks_of(self, pixels: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 2, refined where the recipe says so; and which masks the refinement had to leave as they were."""
        recipe = self.recipe
        masks = pseudo_mask(attention, recipe.theta, strict=recipe.theta_rel == ">").cpu()
        if recipe.refine == "none":
            return masks, torch.zeros(len(masks), dtype=torch.bool)
        sure = (recipe.sure_background, recipe.sure_object)
        return refine(pixels, attention, masks, sure, recipe.refine_iterations)

    def took(self) -> str:
        """What was made, in how long."""
        if not self.made:
            return "all masks were there"
        length = f"{self.seconds / 60:.0f} min" if self.seconds >= 120 else f"{self.seconds:.1f} s"
        return f"{self.made} masks in {length} ({1000 * self.seconds / self.made:.0f} ms an image)"


def score_boxes(source: Source) -> dict[str, float]:
    images = boxes.load_boxed(source.data, transform_from_facts(source.facts), source.facts["classes"])
    made = Maker(source, images)(torch.arange(len(images)))
    found, peak = (torch.from_numpy(made[name]) for name in ("masks", "peak"))
    numbers = agreement(found, images.masks) | {"pointing": pointing(peak, images.masks)}
    return numbers | refinement_failed(source, made)


def show(title: str, numbers: dict[str, float]) -> str:
    return title + ": " + ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in numbers.items())


def check(against: str | None, out: Path | None) -> None:
    if against is not None and against not in AGAINST:
        raise UserError(f"score-against must be {' or '.join(AGAINST)}, got {against!r}")
    if out is None and against != boxes.NAME:
        raise UserError(f"--out DIR is required; only --score-against {boxes.NAME} goes without")


def main() -> None:
    given = parser().parse_args()
    recipe = from_arguments(given, pick(PRESETS, given.preset))
    check(given.score_against, given.out)
    device, outputs = device_of(given), [given.out / "manifest.json"] if given.out else []
    with making(outputs, [given.checkpoint], expect=given.expect, wait_s=given.wait, together=of_main) as step:
        model, facts = checkpoint.load_finished(given.checkpoint)
        weights, progress = checkpoint.weights_digest(model), not given.quiet
        model.bf16 = given.precision == "bf16"
        if recipe.output_stride:
            set_output_stride(model, recipe.output_stride)
        source = Source(model, facts, weights, recipe, given.precision, device, given.batch_size, given.data, progress)
        if outputs:
            write_masks(source, given.out, given.image_size, given.limit or facts["limit"], given.score_against, step)
        else:
            step.say(show("against boxes", score_boxes(source)))
    print(*outputs, sep="\n", end="\n" if outputs else "")


def write_masks(
    source: Source, out: Path, size_px: int | None, limit: int | None, against: str | None, step: Step
) -> None:
    """The folder of masks, what is counted of them on stdout, and how long it took on stderr."""
    facts, transform = source.facts, transform_from_facts(source.facts)
    if size_px:
        transform = replace(transform, size_px=size_px, resize_px=None)
    on_corrupt = "skip" if facts["data_facts"].get("left_out") else "stop"  # as the network's training did
    how = {"root": source.data, "limit": limit, "classes": facts["classes"], "on_corrupt": on_corrupt}
    images = training_images(facts["id_set"], transform, **how)
    if against == "truth" and images.masks is None:
        raise UserError(f"{images.name} has no true masks to score against; the generated benchmark (shapes) has")
    identity = {
        "checkpoint_sha256": source.weights, "data": images.name, "data_sha256": images.digest,
        "classes": source.model.classes - facts["extra_classes"], "transform": transform.facts(), "limit": limit,
        "recipe": as_plain(source.recipe), "precision": source.precision,
    }  # fmt: skip
    forget_damaged(out)
    if step.is_done({"command": "dfb.masks", "version": VERSION, "score_against": against} | identity):
        return
    size, maker, turn = tuple(images.size_px), Maker(source, images), (distributed.rank(), distributed.world())
    made = make_masks(out, identity, len(images), size, maker, turn, distributed.wait)
    if not distributed.is_main():
        return
    counts = judge(StoredMasks(torch.from_numpy(made["bits"]), size, {}), made, images, against, source)
    write_manifest(out, identity, len(images), size, counts)
    read_masks(out)
    whole = {name: value for name, value in counts.items() if not isinstance(value, dict)}
    step.say(show(f"{len(images)} masks", whole))
    for name in counts.keys() - whole.keys():
        step.say(show(name.replace("_", " "), counts[name]))
    print(maker.took(), file=sys.stderr)


def forget_damaged(out: Path) -> None:
    """A manifest whose parts are lost or damaged is taken away, and they too: the folder is unfinished again, and what is lost is made."""
    if distributed.is_main() and (out / "manifest.json").exists():
        try:
            read_masks(out)
        except UserError:
            with suppress(UserError):  # of a manifest that says nothing, parts are known by what they hold
                for part in damaged_parts(out, read_manifest(out / "manifest.json")):
                    part.unlink()
            (out / "manifest.json").unlink(missing_ok=True)


def judge(
    masks: StoredMasks, made: dict[str, np.ndarray], images: Any, against: str | None, source: Source
) -> dict[str, Any]:
    """What the manifest says of the masks: shares, and how they compare with the truth that was asked for."""
    counts: dict[str, Any] = count_masks(masks, made["predicted"], images.labels) | refinement_failed(source, made)
    if against == "truth":
        counts["against_truth"] = agreement(masks.rows(torch.arange(len(masks))), images.masks.cpu())
    elif against:
        counts["against_boxes"] = score_boxes(source)
    return counts


def refinement_failed(source: Source, made: dict[str, np.ndarray]) -> dict[str, float]:
    """The share of masks that the recipe's refinement, where it has one, left as they were."""
    return {} if source.recipe.refine == "none" else {"refinement_failed_share": float(made["kept"].mean())}


if __name__ == "__main__":
    command(main)
