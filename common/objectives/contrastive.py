"""What contrastive methods share: losses on unit vectors, the projection they are taken of, and the recipe. The methods: ssd.py, cider.py."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.cli.recipes import choice, number, switch
from common.objectives.probe import put_head
from common.training.distributed import all_rows, gather_rows
from common.training.objective import Batch, Objective
from common.training.recipe import BaselineRecipe

Unit = Float[Tensor, "rows width"]  # rows of length 1
Prototypes = Float[Tensor, "classes width"]  # of length 1 too
BASE_TAU = 0.07  # by which the public code divides


@dataclass(frozen=True)
class ContrastiveRecipe(BaselineRecipe):
    """The recipe of supervised contrastive learning; the defaults are what SSD's, CIDER's and NPOS's public codes have in common."""

    epochs: int = number(500, low=1, why="passes over the training set; CIDER's public code")
    batch_size: int = number(512, low=1, why="images a step, over all processes; SSD's and CIDER's public codes")
    lr: float = number(0.5, low=0, why="highest learning rate; SSD's and CIDER's public codes")
    weight_decay: float = number(1e-4, low=0, why="L2 on all parameters, batch norm included; both codes")
    schedule: str = choice("cosine", ("step", "cosine", "one-cycle"), why="rate over the run; both codes: cosine")
    warmup_epochs: int = number(10, low=0, why="first epochs, in which the rate rises linearly; both codes")
    crop: str = choice("resized", ("pad", "resized", "none"), why="random crop; both codes: a resized part of the area")
    jitter: bool = switch(True, why="colour jitter .4/.4/.4/.1 with probability 0.8; both codes")
    grey: float = number(0.2, low=0, high=1, why="probability that an image loses its colours; both codes")
    sync_bn: bool = switch(True, why="over several processes, batch statistics of the global batch; needs GPUs")
    tau: float = number(0.1, low=1e-3, why="temperature, on cosines; CIDER's public code")
    width: int = number(128, low=1, why="of the projection; both codes")
    scale: bool = switch(
        True, why="multiply the contrastive loss by tau / 0.07, as both codes do: their lr is meant so"
    )
    probe_decay: float = number(
        1e-3, low=0, why="L2 on the head that is fitted at the end, on standardised features; ours"
    )
    accuracy: str = "probe"  # of which head: one fitted at the end. No flag; in every row of results

    @property
    def factor_of_loss(self) -> float:
        return self.tau / BASE_TAU if self.scale else 1.0


class Contrastive(Objective):
    """Base of methods on two views and a projection, without the classifier's head, which is fitted at the end."""

    Recipe = ContrastiveRecipe
    views, uses_head = 2, False

    def build(self, model: Classifier) -> None:
        """Linear C-C, ReLU, Linear C-width, as all of their public codes."""
        width = model.channels
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, self.recipe.width)
        )

    def project(self, features: Float[Tensor, "rows channels"]) -> Unit:
        return F.normalize(self.projection(features), dim=1)

    def rows(self, features: Float[Tensor, "rows channels"], batch: Batch) -> tuple[Unit, Int64[Tensor, " rows"]]:
        """The projections of all processes' images and their labels, first views first. Gradients pass."""
        return whole(self.project(features), self.views, gather_rows), all_rows(batch.labels).repeat(self.views)

    def finish(self, model: Classifier, images: Any) -> None:
        put_head(model, images, self.recipe.probe_decay)


def whole(own: Float[Tensor, "rows width"], views: int, join: Callable[[Tensor], Tensor]) -> Float[Tensor, "all width"]:
    """All processes' rows joined by `join`, first views first: what one process would have."""
    return join(own.unflatten(0, (views, -1)).transpose(0, 1)).transpose(0, 1).flatten(0, 1)


def supervised_contrastive_loss(z: Unit, labels: Int64[Tensor, " rows"], tau: float) -> Tensor:
    """SupCon: mean over rows of minus the mean log-probability of the other rows of the same label among all other rows (Khosla et al. 2020,
    Eq. 2). Rows that have none count for nothing. Without the factor tau / 0.07 of public codes."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~itself
    logits = (z @ z.T / tau).masked_fill(itself, -torch.inf)
    log_probability = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(~positive, 0)
    counts = positive.sum(1)
    return -(log_probability.sum(1) / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)


def dispersion_loss(prototypes: Prototypes, tau: float) -> Tensor:
    """Mean over classes of log((1 / (K - 1)) sum_j!=i exp(m_i . m_j / tau)), m the prototypes of K >= 2 classes (CIDER Eq. 7)."""
    classes = len(prototypes)
    itself = torch.eye(classes, dtype=torch.bool, device=prototypes.device)
    others = (prototypes @ prototypes.T / tau).masked_fill(itself, -torch.inf)
    return (others.logsumexp(1) - math.log(classes - 1)).mean()


def compactness_loss(z: Unit, prototypes: Prototypes, labels: Int64[Tensor, " rows"], tau: float) -> Tensor:
    """Mean cross-entropy of z . m_k / tau over the classes' prototypes (CIDER Eq. 6). Without the factor tau / 0.07 of public codes."""
    return F.cross_entropy(z @ prototypes.T / tau, labels)


@torch.no_grad()
def cosine_within(z: Unit, labels: Int64[Tensor, " rows"]) -> Float[Tensor, " 2"]:
    """To log: the sum of cosines of pairs of different rows with one label, and their number."""
    same = (labels[:, None] == labels).fill_diagonal_(False)
    return torch.stack([((z @ z.T) * same).sum().float(), same.sum().float()])
