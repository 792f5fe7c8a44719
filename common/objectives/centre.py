"""DML+'s second network: cross-entropy and centre loss, for features whose length tells (Zhang & Xiang, CVPR 2023)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.recipes import number, numbers
from common.objectives.focal import CosineHead, presets
from common.training.distributed import all_rows, over_batch
from common.training.method import Method
from common.training.objective import Batch, Clock, accuracy, ratio
from common.training.recipe import BaselineRecipe

NEAREST, FARTHEST = 1e-12, 1e12  # squared distances that count, as in the public code


@dataclass(frozen=True)
class CentreRecipe(BaselineRecipe):
    """No recipe of the authors' is public; what belongs to the centre loss is OpenHAIV's, the rest is this suite's."""

    epochs: int = number(100, low=1, why="passes over the training set; the paper's, as far as is known")
    centre_weights: tuple[float, ...] = numbers(
        (0.001, 0.005), low=0, high=1e6, why="of the centre loss, one after the other, after none; OpenHAIV"
    )
    centre_begins: tuple[float, ...] = numbers(
        (0.6, 0.8), low=0, high=1, why="shares of the run after which each begins; OpenHAIV, of 100 epochs"
    )
    centre_lr: float = number(0.5, low=0, why="of the centres' own SGD, without momentum, decay or schedule; OpenHAIV")
    origin: str = "ours"
    role: str = "length"  # in the pair of networks that dml+ scores. No flag

    def __post_init__(self):
        super().__post_init__()
        if len(self.centre_weights) != len(self.centre_begins) or list(self.centre_begins) != sorted(
            self.centre_begins
        ):
            raise UserError(
                f"centre_begins must be as many as centre_weights, {len(self.centre_weights)}, and rise, got {self.centre_begins}"
            )

    def weight(self, epoch: int, epochs: int) -> float:
        """Of the centre loss in an epoch, from 0."""
        begun = sum(epoch >= round(share * epochs) for share in self.centre_begins)
        return self.centre_weights[begun - 1] if begun else 0.0


class Centre(CosineHead):
    """Cross-entropy of features on rows of length 1, plus a weight times the squared distance to the class's centre (the paper's DML+, network for
    MaxNorm)."""

    Recipe = CentreRecipe

    def build(self, model: Classifier) -> None:
        super().build(model)
        self.register_buffer("centres", torch.randn(model.classes, model.channels))

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        features, weight = model.penultimate(batch.flat), self.recipe.weight(clock.epoch, clock.epochs)
        logits = features @ F.normalize(model.head.weight, dim=1).T
        ce = over_batch(F.cross_entropy(logits, batch.labels), len(logits))
        centre = over_batch(centre_loss(features, self.centres, batch.labels), len(logits))
        if self.training and weight:
            self.centres = moved(self.centres, all_rows(features), all_rows(batch.labels), self.recipe.centre_lr)
        length = torch.linalg.vector_norm(features.detach(), dim=1)
        logs = {"ce": ce.detach(), "centre": centre.detach(), "feature_norm": ratio(length.sum(), len(length))}
        logs["train_accuracy"] = accuracy(logits, batch.labels)
        return (ce + weight * centre if weight else ce), logs


def centre_loss(
    features: Float[Tensor, "rows channels"], centres: Float[Tensor, "classes channels"], labels: Int64[Tensor, " rows"]
) -> Tensor:
    """Mean squared distance of features to their class's centre, each within [1e-12, 1e12] (Wen et al. 2016, Eq. 2, twice)."""
    return (features - centres[labels]).square().sum(1).clamp(NEAREST, FARTHEST).mean()


@torch.no_grad()
def moved(
    centres: Float[Tensor, "classes channels"], features: Float[Tensor, "rows channels"], labels: Int64[Tensor, " rows"], lr: float
) -> Float[Tensor, "classes channels"]:  # fmt: skip
    """Centres after a step of plain SGD on the centre loss itself: its weight is divided out, as in the public code."""
    away = features.to(centres) - centres[labels]
    away = away * ((away.square().sum(1) >= NEAREST) & (away.square().sum(1) <= FARTHEST))[:, None]
    return centres.index_add(0, labels, away, alpha=2 * lr / len(labels))


METHOD = Method("dml-centre", Centre, presets(CentreRecipe()), title="DML+ centre", by_name=True)
