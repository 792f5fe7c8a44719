"""Fine-tune a pre-trained classifier with cross-entropy and the local background penalty (LBF Eq. 7).

    python -m lbf.finetune RUN/checkpoint.pt --preset cifar10 --out RUN2

With --lam 0 this is the control: the same start, data order, augmentation and schedule, without the penalty. docs/lbf.md says what each
logged number means and where this differs from the paper.
"""

import argparse
import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli.errors import UserError, command
from common.cli.recipes import choice, number, numbers
from common.data.images import balanced_subset
from common.data.masks import StoredMasks, check_masks, read_masks, true_masks
from common.training import command as training
from common.training.custom import CUSTOM
from common.training.distributed import over_batch
from common.training.method import Given, Method, Training
from common.training.objective import Batch, Clock, Objective, accuracy, ratio
from common.training.recipe import TrainRecipe
from lbf.locations import LOCATIONS, WITH_TRUTH, background_locations, local_maps, select_locations
from lbf.loss import background_norm_loss, local_norms


@dataclass(frozen=True)
class LBFRecipe(TrainRecipe):
    """LBF's fine-tuning; the defaults are the paper's CIFAR settings (section 4.1) where it states them."""

    epochs: int = number(30, low=1, why="passes over the training set; LBF: 30 on CIFAR, 10 on ImageNet-100")
    lr: float = number(0.1, low=0, why="highest learning rate; LBF: 0.1 on CIFAR, 5e-5 on ImageNet-100")
    weight_decay: float = number(1e-4, low=0, why="L2 on all parameters, batch norm included; LBF")
    drops: tuple[float, ...] = numbers((0.5,), low=0, high=1, why="shares of the run where the rate falls tenfold; LBF")
    delta: float | None = number(None, low=0, why="background has less probability of its own class; Eq. 5. none: 1/K")
    mu: float = number(1.0, low=0, why="norm from which the penalty grows; LBF Eq. 6: 1, CIFAR-100 2, ImageNet-100 3")
    lam: float = number(1.0, low=0, why="weight of the penalty; LBF Eq. 7. 0 is the control")
    selector: str = choice(
        "live", ("live", "frozen"), why="who selects: the network in training, or the pre-trained one"
    )
    reduction: str = choice(
        "batch", ("batch", "image"), why="mean over all selected locations (Eq. 6), or per image first"
    )
    norm: str = choice("l2", ("l2", "l1"), why="of a vector; LBF Eq. 6: L2. l1 is divided by the root of the channels")
    locations: str = choice(
        "background", LOCATIONS, why="what is penalised; background: LBF Eq. 5; others: docs/lbf.md"
    )
    masks_sha256: str = ""  # identity of the masks: no flag, but part of the run's identity


PRESETS = {
    "cifar10": LBFRecipe(delta=0.1, mu=1.0),
    "cifar100": LBFRecipe(delta=0.01, mu=2.0),
    "imagenet100": LBFRecipe(epochs=10, lr=5e-5, delta=0.01, mu=3.0, crop="resized"),
    "shapes": LBFRecipe(epochs=12, batch_size=64, lr=0.05, precision="float32"),
    CUSTOM: LBFRecipe(weight_decay=5e-4, schedule="one-cycle"),  # what it does not give follows from images and network
}


class LBF(Objective):
    """Cross-entropy on the pooled features plus lambda times the mean excess norm of background locations (Eq. 7).

    `masks` (True = foreground, a row an image of the training set) are read with locations "masks" and those of the truth; what a crop pads counts
    as background.
    """

    Recipe = LBFRecipe

    def __init__(self, recipe: LBFRecipe, start: Classifier, masks: StoredMasks | None = None):
        super().__init__(recipe)
        self.masks = masks
        self.delta = 1 / start.classes if recipe.delta is None else recipe.delta
        # Kept out of parameters and state: the frozen selector is the start network, which a resumed run loads again.
        self._frozen = (copy.deepcopy(start).eval(),) if recipe.selector == "frozen" else ()

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        feature_map = model.feature_map(batch.flat)
        logits = model.head(model.pool(feature_map))
        ce = over_batch(F.cross_entropy(logits, batch.labels), len(logits))
        mask = self.select(model, feature_map.detach(), batch, clock)
        with torch.set_grad_enabled(self.recipe.lam > 0):  # the control's step is plain cross-entropy, bit for bit
            lff = background_norm_loss(feature_map, mask, self.recipe.mu, self.recipe.reduction, self.recipe.norm)
        loss = ce + self.recipe.lam * lff if self.recipe.lam > 0 else ce
        logs = {"ce": ce.detach(), "lff": lff.detach(), "train_accuracy": accuracy(logits, batch.labels)}
        return loss, logs | selection_numbers(feature_map.detach(), mask, self.recipe.mu)

    @torch.no_grad()
    def select(
        self, model: Classifier, feature_map: Float[Tensor, "batch channels rows cols"], batch: Batch, clock: Clock
    ) -> Bool[Tensor, "batch rows cols"]:
        """Eq. 5, or one of the ablations in its place."""
        selector = model
        if self._frozen:
            selector = self._frozen[0].to(feature_map.device)
            selector.bf16 = model.bf16
            feature_map = selector.feature_map(batch.flat)
        return select_locations(
            self.recipe.locations, selector, feature_map, batch.labels, self.delta, batch.flat_masks, clock.generator
        )


@torch.no_grad()
def selection_numbers(
    feature_map: Float[Tensor, "batch channels rows cols"], mask: Bool[Tensor, "batch rows cols"], mu: float
) -> dict[str, Float[Tensor, " 2"]]:
    """What is logged of a selection; see docs/lbf.md."""
    norms, counts, images = local_norms(feature_map), mask.sum(dim=(1, 2)), len(mask)
    selected, others = mask.sum(), (~mask).sum()
    return {
        "selected_share": ratio(selected, mask.numel()),
        "images_none_selected": ratio((counts == 0).sum(), images),
        "images_all_selected": ratio((counts == mask[0].numel()).sum(), images),
        "selected_above_mu": ratio((mask & (norms > mu)).sum(), selected),
        "norm_selected": ratio((norms * mask).sum(), selected),
        "norm_others": ratio((norms * ~mask).sum(), others),
        "norm_pooled": ratio(torch.linalg.vector_norm(Classifier.pool(feature_map), dim=1).sum(), images),
    }


def selected_share(model: Classifier, images, delta: float, count: int = 2000) -> float:
    """The share of locations Eq. 5 selects in (at most `count`) training images, of all classes alike, under the test transform."""
    masks = [mask.flatten().cpu() for _, _, mask in background_locations(model, some_of(images, count), delta)]
    return float(torch.cat(masks).double().mean())


def quiet_norm(model: Classifier, images, count: int = 500) -> float:
    """A mu of one's own images: the norm, to two digits, that a quarter of the locations of (at most `count`) training images do not reach."""
    norms = [local_norms(found).flatten().cpu() for _, found, _ in local_maps(model, some_of(images, count))]
    return float(f"{np.quantile(torch.cat(norms).numpy(), 0.25):.2g}")


def some_of(images: Any, count: int) -> Any:
    """At most so many, as many of each class: images of a folder lie class by class."""
    return images.subset(
        balanced_subset(images.labels.cpu(), min(count, len(images)), torch.Generator().manual_seed(0))
    )


def location_masks(recipe: LBFRecipe, folder: Path | None, images, model: Classifier) -> StoredMasks | None:
    """The masks that the recipe's locations need, of these images and this start network. Raises UserError for those of others."""
    if (folder is None) != (recipe.locations != "masks"):
        raise UserError(f"--masks DIR goes with --locations masks, and only with it; got locations {recipe.locations}")
    if recipe.locations in WITH_TRUTH:
        return true_masks(images)
    if folder is None:
        return None
    masks = read_masks(folder)
    check_masks(masks, images, checkpoint.weights_digest(model), model.classes)
    return masks


def begin(given: Given) -> Training:
    """From the start network, on its images; measures how much of them Eq. 5 selects."""
    model, start, recipe = given.start, given.start_facts, given.recipe
    if recipe.delta is None:
        recipe = replace(recipe, delta=1 / model.classes)
    images = given.images()
    if given.preset == CUSTOM and "mu" not in given.changes:
        recipe = replace(recipe, mu=quiet_norm(model.to(given.device), images))
    masks = location_masks(recipe, given.own["masks"], images, model)
    recipe = replace(recipe, masks_sha256=masks.digest if masks else "")
    facts = {
        "method": "LBF" if recipe.lam > 0 else "control", "start": checkpoint.weights_digest(model),
        "start_recipe": start["recipe"], "start_upstream": checkpoint.upstream(start), "start_seed": start["seed"],
        "mask_recipe": masks.manifest["recipe"] if masks else {},
    }  # fmt: skip

    def measure() -> tuple[dict[str, float], str]:
        share, of = selected_share(model.to(given.device), images, recipe.delta), min(2000, len(images))
        said = f"selected share of the start network (p < {recipe.delta:g}, {of} training images): {100 * share:.2f} %"
        return {"selected_share_at_start": share}, said

    return Training(model, LBF(recipe, model, masks), images, recipe, facts, measure)


def add_masks_argument(parser: argparse.ArgumentParser) -> None:
    said = "with --locations masks: masks of the training images, made of the start network"
    parser.add_argument("--masks", type=Path, default=None, metavar="DIR", help=said)


METHOD = Method("LBF", LBF, PRESETS, begin=begin, from_checkpoint=True, add_arguments=add_masks_argument)


def parser() -> argparse.ArgumentParser:
    return training.parser((METHOD,), "lbf.finetune", __doc__)


def main() -> None:
    training.main(parser(), (METHOD,))


if __name__ == "__main__":
    command(main)
