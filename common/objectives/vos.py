"""VOS: a logistic loss between energies of images and of virtual outliers, drawn at the edge of class Gaussians (Du et al., ICLR 2022)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.recipes import number
from common.objectives.queues import ClassQueues, say_if_without_outliers
from common.training.distributed import all_rows, global_mean, over_batch, world
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock, Objective, accuracy, ratio
from common.training.recipe import BaselineRecipe

JITTER = 1e-4  # on the covariance's diagonal, as in the public code; ten times more until it can be decomposed


@dataclass(frozen=True)
class VOSRecipe(BaselineRecipe):
    """VOS's training; the defaults are those of its public code."""

    outliers_from: int = number(40, low=0, why="first epoch, from 0, with the uncertainty loss")
    queue: int = number(1000, low=2, why="newest vectors kept of each class")
    draws: int = number(10_000, low=1, why="draws from each class's Gaussian a step")
    select: int = number(1, low=1, why="of these, the least likely that become outliers; at most draws")
    weight: float = number(0.1, low=0, why="of the uncertainty loss, no unit")

    def __post_init__(self):
        super().__post_init__()
        if self.select > self.draws:
            raise UserError(f"select must be at most draws, {self.draws}, got {self.select}")


class VOS(Objective):
    """Cross-entropy plus weight times the uncertainty loss, once every class's queue is full (Eq. 6 of the paper)."""

    Recipe = VOSRecipe
    uses_all = False  # before the first outliers the energy's weights and the logistic layer do nothing

    def build(self, model: Classifier) -> None:
        self.queues = ClassQueues(model.classes, self.recipe.queue, model.channels)
        self.weights = nn.Parameter(torch.rand(model.classes))
        self.phi = nn.Linear(1, 2)

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        features = model.pool(model.feature_map(batch.flat))
        logits = model.head(features)
        ce = over_batch(F.cross_entropy(logits, batch.labels), len(logits))
        logs = {"ce": ce.detach(), "train_accuracy": accuracy(logits, batch.labels)}
        if self.training:
            self.queues.push(all_rows(features), all_rows(batch.labels))
        if clock.epoch < self.recipe.outliers_from or not self.queues.full():
            return ce, logs
        odd = virtual_outliers(self.queues.rows, self.recipe.draws, self.recipe.select, clock.generator)
        uncertainty, right, odd_right = self.uncertainty(logits, model.head(odd))
        logs |= {"uncertainty": uncertainty.detach(), "phi_accuracy": ratio(right, len(logits))}
        logs |= {"phi_accuracy_outliers": ratio(odd_right, len(odd))}
        return ce + self.recipe.weight * uncertainty, logs

    def finish(self, model: Classifier, images: Any) -> None:
        """A word where the run had no outliers: it is then cross-entropy's."""
        super().finish(model, images)
        say_if_without_outliers("vos", self.recipe, self.queues)

    def uncertainty(self, logits: Tensor, odd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of this process's images and of the outliers, which all processes have alike; how many of each phi tells rightly."""
        said, said_odd = (self.phi(weighted_energy(rows, self.weights)[:, None]) for rows in (logits, odd))
        ones, zeros = said.new_ones(len(said), dtype=torch.int64), said.new_zeros(len(odd), dtype=torch.int64)
        own, shared = F.cross_entropy(said, ones, reduction="sum"), F.cross_entropy(said_odd, zeros, reduction="sum")
        loss = global_mean(own + shared / world(), torch.tensor(len(said) + len(odd) / world(), dtype=torch.float64))
        return loss.to(logits.dtype), (said.argmax(1) == 1).sum(), (said_odd.argmax(1) == 0).sum()


def weighted_energy(
    logits: Float[Tensor, "rows classes"], weights: Float[Tensor, " classes"]
) -> Float[Tensor, " rows"]:
    """log sum_k relu(w_k) exp f_k: minus the free energy, weighted as in the public code. Finite where all weights are negative."""
    largest = logits.detach().amax(1, keepdim=True)
    total = (weights.relu() * (logits - largest).exp()).sum(1)
    return total.clamp_min(torch.finfo(total.dtype).tiny).log() + largest[:, 0]


@torch.no_grad()
def virtual_outliers(
    queues: Float[Tensor, "classes length width"], draws: int, select: int, generator: torch.Generator
) -> Float[Tensor, "outliers width"]:
    """Of `draws` from each class's Gaussian the `select` least likely; one covariance for all classes (Eq. 3 and 4 of the paper)."""
    means, factor = class_gaussians(queues)
    shape = {"size": (draws, means.shape[1]), "generator": generator, "device": means.device, "dtype": means.dtype}
    return torch.cat([least_likely(mean, factor, torch.randn(**shape), select) for mean in means])


def class_gaussians(queues: Float[Tensor, "classes length width"]) -> tuple[Tensor, Tensor]:
    """Each class's mean, and the lower triangular factor of the covariance that they share. Raises UserError where there is none."""
    means = queues.mean(1)
    centred = (queues - means[:, None]).flatten(0, 1)
    covariance = centred.T @ centred / len(centred)
    jitter = JITTER
    while jitter < 1e6:
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * torch.eye(len(covariance)).to(covariance))
        if int(info) == 0:
            return means, factor
        jitter *= 10
    raise UserError("VOS: the features have no covariance that could be decomposed; try a lower lr")


def least_likely(
    mean: Float[Tensor, " width"],
    factor: Float[Tensor, "width width"],
    draws: Float[Tensor, "draws width"],
    select: int,
) -> Float[Tensor, "select width"]:
    """The points m + L e of the longest `draws` e: the log density is a constant - |e|^2 / 2, so no density need be computed."""
    longest = draws.square().sum(1).topk(select).indices
    return mean + draws[longest] @ factor.T


_AUTHORS = VOSRecipe(epochs=100, schedule="cosine", lr_end=1e-6, nesterov=True)
_SHORT = replace(_AUTHORS, outliers_from=0, origin="short")
_CODE, _OPENOOD = "VOS's public code", "OpenOOD's configuration: outliers from the first epoch"
PRESETS = presets_of("energy", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, _OPENOOD),
    "cifar100": (_AUTHORS, f"{_CODE}, its defaults"),
    "cifar100-short": (_SHORT, _OPENOOD),
    "imagenet100": (replace(_AUTHORS, lr=0.05, weight_decay=1e-4, crop="resized", queue=100, origin="ours"), "none published"),
    "shapes": (VOSRecipe(epochs=12, schedule="one-cycle", precision="float32", outliers_from=4, queue=200, draws=2000, origin="ours"), "ours: the generated benchmark"),
})  # fmt: skip
METHOD = Method("vos", VOS, PRESETS, title="VOS", by_name=True)
