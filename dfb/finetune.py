"""Train the dense predictor on pseudo-masks and convert it (DFB Eq. 3-5).

    python -m dfb.finetune RUN/checkpoint.pt --masks MASKS --preset cifar10 --out RUN2

RUN is the network that made the masks. The checkpoint of RUN2 is the converted (K+1)-class classifier: the conversion swaps upsampling for
pooling and changes no weight. docs/dfb.md says what each logged number means and where this differs from the paper.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common import checkpoint
from common.backbones import build
from common.backbones.classifier import Classifier
from common.cli.errors import UserError, command
from common.cli.recipes import choice, number, numbers, switch
from common.data.masks import IGNORE, StoredMasks, check_masks, read_masks, true_masks
from common.data.transforms import Transform
from common.training import command as training
from common.training.custom import CUSTOM
from common.training.method import Given, Method, Training
from common.training.objective import Batch, Clock, Objective, accuracy, ratio
from common.training.placement import JointAugmentation
from common.training.recipe import TrainRecipe
from common.training.seeds import seeded
from dfb.dense import dense_loss


@dataclass(frozen=True)
class DFBRecipe(TrainRecipe):
    """Dense training; the defaults are the paper's settings (section 4) where it states them."""

    batch_size: int = number(128, low=1, why="images a step, over all processes; DFB")
    lr: float = number(0.003, low=0, why="highest learning rate; DFB")
    weight_decay: float = number(0.0, low=0, why="L2; 0 as in BiT's rule and DFB's code")
    drops: tuple[float, ...] = numbers(
        (0.3, 0.6, 0.9), low=0, high=1, why="shares of the run after which the rate is divided by 10; DFB"
    )
    warmup_steps: int = number(500, low=0, why="steps of linear warm-up from 0; BiT's rule and DFB's code")
    drop_last: bool = switch(False, why="drop an epoch's last, incomplete batch; kept in DFB's code")
    crop: str = choice("none", ("none",), why="scaling with its own window takes the place of a crop here")
    jitter: bool = switch(False, why="not part of this method")
    scale_low: float = number(0.5, low=0.1, high=8, why="smallest random scaling of image and mask; DFB")
    scale_high: float = number(2.0, low=0.1, high=8, why="largest random scaling; DFB")
    stage2_init: str = choice(
        "in21k", ("in21k", "stage1", "scratch"), why="body: weights stage 1 began with, stage 1, new ones; dfb.md 4.12"
    )
    head_start: str = choice("zeros", ("zeros", "stage1"), why="zeros (BiT's rule), or stage 1's K rows and a zero row")
    body: str = choice(
        "trained", ("trained", "frozen"), why="frozen: the head alone learns, batch norm stays too; an ablation"
    )
    pixel_labels: str = choice(
        "pseudo", ("pseudo", "truth", "foreground"), why="pseudo-masks; the set's true ones; no background (control)"
    )
    empty_mask: str = choice(
        "keep", ("keep", "drop", "whole_image"), why="without foreground: all background, left out, all foreground"
    )
    output_stride: int | None = number(
        None, low=1, why="pixels per location, by dilation, weights kept; DFB's code offers 16. none: the network's own"
    )
    align_corners: bool = switch(False, why="corner-aligned upsampling, as in DFB's code; breaks the conversion")
    loss_reduction: str = choice(
        "pixels", ("pixels", "images"), why="mean over the batch's counted pixels, or per image first; DFB Eq. 3"
    )
    masks_sha256: str = ""  # identity of the masks: no flag, but part of the run's identity

    def __post_init__(self):
        super().__post_init__()
        if self.body == "frozen" and self.bn != "frozen":
            raise UserError("body frozen needs bn frozen too, got bn train")
        if self.scale_high < self.scale_low:
            raise UserError(f"scale_high must be >= scale_low ({self.scale_low:g}), got {self.scale_high:g}")

    @property
    def augmentation(self) -> JointAugmentation:
        return JointAugmentation(self.scale_low, self.scale_high, self.flip)


_CIFAR = DFBRecipe(steps=20_000)
_FROM_STAGE1 = DFBRecipe(stage2_init="stage1", head_start="stage1", scale_low=0.75, scale_high=1.5)
_QUICK = replace(_FROM_STAGE1, epochs=4, lr=0.05, weight_decay=5e-4, warmup_steps=0, schedule="one-cycle")
PRESETS = {
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "quick": _QUICK,  # ours: from stage 1, any set; for trying things out
    "shapes": replace(_QUICK, epochs=8, precision="float32"),
    CUSTOM: _QUICK,  # what it does not give follows from images and network
}


class DFB(Objective):
    """Pixel cross-entropy over K classes and background (Eq. 3), the masks augmented with their images."""

    Recipe = DFBRecipe
    extra_classes = 1

    def __init__(self, recipe: DFBRecipe, masks: StoredMasks):
        super().__init__(recipe)
        empty = (masks.bits == 0).all(1)
        if recipe.empty_mask == "whole_image":
            masks = replace(masks, bits=masks.bits.masked_fill(empty[:, None], 255))
        self.masks = masks
        left_out = empty & (recipe.empty_mask == "drop")
        self.register_buffer("left_out", left_out, persistent=False)  # follows from the masks

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        local = model.local_logits(model.feature_map(batch.flat))
        placed = batch.flat_masks.masked_fill(self.left_out[batch.index.to(local.device)][:, None, None], IGNORE)
        targets = pixel_targets(placed, batch.labels, model.classes - 1)
        loss = dense_loss(local, targets, align_corners=self.recipe.align_corners, reduction=self.recipe.loss_reduction)
        return loss, {"pixel_ce": loss.detach()} | dense_numbers(local.detach(), placed, batch.labels)


def pixel_targets(
    placed: Int64[Tensor, "batch height width"], labels: Int64[Tensor, " batch"], background: int
) -> Int64[Tensor, "batch height width"]:
    """1 becomes the image's class, 0 the background class K, padding stays IGNORE."""
    foreground = torch.where(placed == 1, labels[:, None, None], background)
    return torch.where(placed == IGNORE, IGNORE, foreground)


@torch.no_grad()
def dense_numbers(
    local: Float[Tensor, "batch classes rows cols"],
    placed: Int64[Tensor, "batch height width"],
    labels: Int64[Tensor, " batch"],
) -> dict[str, Float[Tensor, " 2"]]:
    """What is logged of a step; see docs/dfb.md. Logits are those of the converted classifier on the augmented images."""
    pooled, counted = local.mean(dim=(2, 3)), (placed != IGNORE).sum()
    return {
        "train_accuracy": accuracy(pooled[:, :-1], labels),
        "background_largest": ratio((pooled.argmax(1) == pooled.shape[1] - 1).sum(), len(pooled)),
        "background_logit": ratio(pooled[:, -1].sum(), len(pooled)),
        "foreground_share": ratio((placed == 1).sum(), counted),
        "padding_share": ratio((placed == IGNORE).sum(), placed.numel()),
        "images_without_foreground": ratio((~(placed == 1).flatten(1).any(1)).sum(), len(placed)),
    }


def dense_network(
    stage1: Classifier, start: dict[str, Any], recipe: DFBRecipe, weights: str | None, seed: int
) -> Classifier:
    """A network with K+1 outputs, its body and head started as the recipe says. Raises UserError where there are no weights to start from."""
    classes, from_weights = stage1.classes, recipe.stage2_init == "in21k"
    if weights is not None and not from_weights:
        raise UserError(f"--weights {weights} is for --stage2-init in21k, got {recipe.stage2_init}")
    if from_weights and weights is None:
        if start["method"] != "pre-trained" or start["start"] == "from scratch":  # others name a network there, no file
            lacks = "stage2_init in21k needs weights, and stage 1 names none it began with"
            raise UserError(f"{lacks}; give --weights FILE, or --stage2-init stage1")
        weights = start["start"]
    outputs, body = classes + DFB.extra_classes, weights if from_weights else None
    with seeded(seed, "initialisation"):
        model = build(stage1.name, outputs, weights=body, output_stride=recipe.output_stride)
    model.body.requires_grad_(recipe.body == "trained")
    model.normalise.load_state_dict(stage1.normalise.state_dict())
    if recipe.stage2_init == "stage1":
        model.body.load_state_dict(stage1.body.state_dict())
    nn.init.zeros_(model.head.weight), nn.init.zeros_(model.head.bias)
    if recipe.head_start == "stage1":
        with torch.no_grad():
            model.head.weight[:classes].copy_(stage1.head.weight), model.head.bias[:classes].copy_(stage1.head.bias)
    return model


def other_masks(images: Any, which: str) -> StoredMasks:
    """What stands in for pseudo-masks: the set's own masks ("truth"), or foreground everywhere. Raises UserError where there is no truth."""
    if which == "truth":
        return true_masks(images)
    height, width = images.size_px
    bits = torch.full((len(images), -(-height * width // 8)), 255, dtype=torch.uint8)
    manifest = {"identity": f"{which} {images.digest}", "recipe": {"pixel_labels": which}, "counts": {}}
    return StoredMasks(bits, (height, width), manifest)


def images_and_masks(given: Given) -> tuple[Any, StoredMasks]:
    """The training images at the masks' size, and masks that belong to them and to this stage-1 network, or a UserError."""
    if given.recipe.pixel_labels != "pseudo":
        if given.own["masks"]:
            read_masks(given.own["masks"])  # not looked at, but named as an input: it must be there
        images = given.images()
        return images, other_masks(images, given.recipe.pixel_labels)
    if given.own["masks"] is None:
        raise UserError("--masks DIR is required with pixel_labels pseudo; make it with python -m dfb.masks")
    masks = read_masks(given.own["masks"])
    images = given.images(Transform(**masks.manifest["transform"]))
    check_masks(masks, images, checkpoint.weights_digest(given.start), given.start.classes)
    return images, masks


def begin(given: Given) -> Training:
    """Images and masks, and a network with one output more than stage 1. Raises UserError for a stage 1 that has it already."""
    stage1, start, weights = given.start, given.start_facts, given.own["weights"]
    if start["extra_classes"]:
        said = "has a background class already; start from the network that made the masks"
        raise UserError(f"{given.own['checkpoint']} {said}")
    images, masks = images_and_masks(given)
    recipe = replace(given.recipe, masks_sha256=masks.digest)
    facts = {
        "transform": masks.manifest.get("transform", start["transform"]), "start": weights or start["start"],
        "stage1_sha256": checkpoint.weights_digest(stage1), "stage1_recipe": start["recipe"], "stage1_seed": start["seed"],
        "start_upstream": checkpoint.upstream(start),
        "masks": masks.digest, "mask_recipe": masks.manifest["recipe"], "mask_counts": masks.manifest["counts"],
    }  # fmt: skip
    model = dense_network(stage1, start, recipe, weights, given.run.seed)
    return Training(model, DFB(recipe, masks), images, recipe, facts)


def add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    masks = "the folder dfb.masks wrote; required with --pixel-labels pseudo"
    parser.add_argument("--masks", type=Path, default=None, metavar="DIR", help=masks)
    weights = "with stage2-init in21k: weights of the body, as for common.pretrain [those stage 1 began with]"
    parser.add_argument("--weights", default=None, metavar="FILE", help=weights)


METHOD = Method("DFB", DFB, PRESETS, begin=begin, from_checkpoint=True, add_arguments=add_stage_arguments)


def parser() -> argparse.ArgumentParser:
    return training.parser((METHOD,), "dfb.finetune", __doc__)


def main() -> None:
    training.main(parser(), (METHOD,))


if __name__ == "__main__":
    command(main)
