"""CIDER: prototypes far from each other, images close to their own (Ming et al., ICLR 2023)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.recipes import choice, number, switch
from common.objectives.contrastive import (
    Contrastive,
    ContrastiveRecipe,
    Prototypes,
    Unit,
    compactness_loss,
    cosine_within,
    dispersion_loss,
)
from common.objectives.probe import training_features
from common.objectives.queues import rank_in_class
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock, accuracy


@dataclass(frozen=True)
class CIDERRecipe(ContrastiveRecipe):
    """CIDER's training; the defaults are those of its public code for CIFAR-10."""

    nesterov: bool = switch(True, why="Nesterov's form of momentum; CIDER's public code")
    lr_end: float = number(5e-4, low=0, why="rate that the cosine falls to; CIDER's public code: lr / 1000")
    cosine_by: str = choice(
        "epoch", ("step", "epoch"), why="whether the cosine falls at every step or after each epoch"
    )
    warmup_lr: float = number(0.001, low=0, why="rate at which the warm-up begins; CIDER's public code, meant so")
    alpha: float = number(0.95, low=0, high=1, why="share that a prototype keeps of itself at each image; public code")
    weight: float = number(2.0, low=0, why="of the compactness loss, no unit; public code: 2, CIFAR-100 1")
    update: str = choice(
        "sequential",
        ("sequential", "mean"),
        why="of prototypes: image by image in order, or by the class mean of a batch",
    )


class CIDER(Contrastive):
    """Dispersion of the prototypes plus weight times compactness (Eq. 5 of the paper). The prototypes take up the batch first; the dispersion's
    gradient passes through that, the compactness's does not."""

    Recipe = CIDERRecipe

    def build(self, model: Classifier) -> None:
        super().build(model)
        self.register_buffer("prototypes", torch.zeros(model.classes, self.recipe.width))

    def prepare(self, model: Classifier, images: Any) -> None:
        """Prototypes begin as the mean directions of the classes' training images."""
        self.prototypes.copy_(class_directions(*training_features(model, images, self.project), len(self.prototypes)))

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        dispersion, compactness, logs = self.prototype_losses(model.pool(model.feature_map(batch.flat)), batch)
        return dispersion + self.recipe.weight * compactness, logs

    def prototype_losses(
        self, features: Float[Tensor, "rows channels"], batch: Batch
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Dispersion; compactness, with the factor of public codes; numbers to log. The prototypes take up the batch."""
        z, labels = self.rows(features, batch)
        prototypes = updated(self.prototypes, z, labels, self.recipe.alpha, self.recipe.update)
        kept = prototypes.detach()
        dispersion = dispersion_loss(prototypes, self.recipe.tau)
        compactness = compactness_loss(z, kept, labels, self.recipe.tau)
        if self.training:
            self.prototypes = kept
        logs = {"dispersion": dispersion.detach(), "compactness": compactness.detach()} | geometry(
            z.detach(), kept, labels
        )
        return dispersion, self.recipe.factor_of_loss * compactness, logs


def class_directions(z: Unit, labels: Int64[Tensor, " rows"], classes: int) -> Prototypes:
    """The mean of each class's rows, of length 1; zeros for a class that has none."""
    sums = z.new_zeros(classes, z.shape[1]).index_add_(0, labels, z)
    return F.normalize(sums, dim=1)


def updated(prototypes: Prototypes, z: Unit, labels: Int64[Tensor, " rows"], alpha: float, how: str) -> Prototypes:
    """Prototypes after m_y <- normalise(alpha m_y + (1 - alpha) z), row by row in their order, or, with "mean", once with the class's mean row.

    Classes do not touch each other, so the r-th rows of all classes are taken up together; the result and its gradient are those of the loop.
    """
    place, given = rank_in_class(labels, len(prototypes))
    if how == "mean":
        sums = torch.zeros_like(prototypes).index_add(0, labels, z)
        moved = F.normalize(alpha * prototypes + (1 - alpha) * sums / given.clamp_min(1)[:, None], dim=1)
        return torch.where((given > 0)[:, None], moved, prototypes)
    most = int(given.max())
    rows = labels.new_zeros(
        len(prototypes), most
    )  # of each class, in order; where it has no more, row 0, which is not taken
    rows[labels, place] = torch.arange(len(labels), device=labels.device)
    for r in range(most):
        moved = F.normalize(alpha * prototypes + (1 - alpha) * z[rows[:, r]], dim=1)
        prototypes = torch.where((given > r)[:, None], moved, prototypes)
    return prototypes


def geometry(z: Unit, prototypes: Prototypes, labels: Int64[Tensor, " rows"]) -> dict[str, Tensor]:
    """To log: the mean cosine between prototypes, the mean cosine within a class, and how many images are nearest to their own prototype."""
    between = (prototypes @ prototypes.T).fill_diagonal_(0).sum()
    pairs = len(prototypes) * (len(prototypes) - 1)
    return {
        "cosine_prototypes": between / pairs, "cosine_within": cosine_within(z, labels),
        "train_accuracy": accuracy(z @ prototypes.T, labels),
    }  # fmt: skip


_AUTHORS = CIDERRecipe()
_SHORT = replace(_AUTHORS, epochs=100, origin="short")
_HUNDRED = {"alpha": 0.5, "weight": 1.0}
_TUNED = CIDERRecipe(epochs=10, lr=0.01, lr_end=1e-5, warmup_epochs=0, warmup_lr=0.0, area_low=0.4, origin="ours")
_HERE = CIDERRecipe(epochs=30, batch_size=128, lr=0.2, lr_end=2e-4, warmup_epochs=2, precision="float32", origin="ours")
_CODE, _OPENOOD = "CIDER's public code", "OpenOOD's configuration: 100 epochs"
PRESETS = presets_of("knn:k=300", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, _OPENOOD),
    "cifar100": (replace(_AUTHORS, **_HUNDRED), _CODE),
    "cifar100-short": (replace(_SHORT, **_HUNDRED), _OPENOOD),
    "imagenet100": (_TUNED, "CIDER's paper, fine-tuning; all layers here; give --weights or --start"),
    "shapes": (_HERE, "ours: the generated benchmark"),
}, **dict.fromkeys(("cifar10", "cifar10-short", "shapes"), "knn:k=100"))  # fmt: skip
METHOD = Method("cider", CIDER, PRESETS, title="CIDER", by_name=True)
