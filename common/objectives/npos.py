"""NPOS: CIDER's prototypes, and outliers drawn around the images that lie farthest from others of their class (Tao et al., ICLR 2023)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.objectives.cider import CIDER, CIDERRecipe
from common.objectives.contrastive import whole
from common.objectives.queues import ClassQueues, say_if_without_outliers
from common.training.distributed import all_rows, global_mean, world
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock, ratio

WIDTH = 128  # of the layer that tells images from outliers, as in the public code


@dataclass(frozen=True)
class NPOSRecipe(CIDERRecipe):
    """NPOS's training; the defaults are those of its public code for CIFAR-10."""

    batch_size: int = number(256, low=1, why="images a step, over all processes; NPOS's public code")
    warmup_epochs: int = number(0, low=0, why="first epochs, in which the rate rises linearly; public code: only above batch 256")  # fmt: skip
    warmup_lr: float = number(0.0, low=0, why="rate at which the warm-up begins")
    dispersion: float = number(0.5, low=0, why="of the dispersion loss, no unit; NPOS's public code")
    weight: float = number(1.0, low=0, why="of the compactness loss, no unit; NPOS's public code")
    outlier_weight: float = number(0.1, low=0, why="of the loss that tells outliers, no unit; NPOS's public code")
    outliers_from: int = number(200, low=0, why="first epoch, from 0, with outliers; NPOS's public code")
    queue: int = number(1000, low=2, why="newest vectors kept of each class; NPOS's public code")
    neighbours: int = number(
        300, low=1, why="k of the distances within a class, the vector itself counted; public code"
    )
    boundary: int = number(200, low=1, why="vectors of a class with the largest distance, its boundary; public code")
    picks: int = number(2, low=1, why="of these, drawn in each step; NPOS's public code")
    draws: int = number(600, low=1, why="normal draws around each of them, the same for all; NPOS's public code")
    spread: float = number(0.1, low=0, why="standard deviation of the draws, in features; NPOS's public code")
    keep: int = number(200, low=1, why="of the draws, the farthest, which become outliers; NPOS's public code")
    selection: str = choice(
        "farthest",
        ("farthest", "as_published"),
        why="draws kept: the farthest, or those the public code takes, whose rows and columns are mixed up",
    )

    def __post_init__(self):
        super().__post_init__()
        for name, most in (("neighbours", "queue"), ("boundary", "queue"), ("picks", "boundary"), ("keep", "draws")):
            if getattr(self, name) > getattr(self, most):
                raise UserError(f"{name} must be at most {most}, {getattr(self, most)}, got {getattr(self, name)}")


class NPOS(CIDER):
    """Dispersion and compactness, weighted, plus the loss of a small layer that tells images from outliers, once
    every class's queue is full."""

    Recipe = NPOSRecipe

    def build(self, model: Classifier) -> None:
        super().build(model)
        self.queues = ClassQueues(model.classes, self.recipe.queue, model.channels)
        self.psi = nn.Sequential(nn.Linear(model.channels, WIDTH), nn.ReLU(inplace=True), nn.Linear(WIDTH, 1))

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        features = model.pool(model.feature_map(batch.flat))
        dispersion, compactness, logs = self.prototype_losses(features, batch)
        loss = self.recipe.dispersion * dispersion + self.recipe.weight * compactness
        if self.training:
            self.queues.push(whole(features, self.views, all_rows), all_rows(batch.labels).repeat(self.views))
        if clock.epoch < self.recipe.outliers_from or not self.queues.full():
            return loss, logs
        odd = boundary_outliers(self.queues.rows, self.recipe, clock.generator)
        told, right, odd_right = self.telling(features, odd)
        logs |= {"outlier_loss": told.detach(), "psi_accuracy": ratio(right, len(features))}
        logs |= {"psi_accuracy_outliers": ratio(odd_right, len(odd))}
        return loss + self.recipe.outlier_weight * told, logs

    def finish(self, model: Classifier, images: Any) -> None:
        """A head, and a word where the run had no outliers: it is then not NPOS's."""
        super().finish(model, images)
        say_if_without_outliers("npos", self.recipe, self.queues)

    def telling(
        self, features: Float[Tensor, "rows channels"], odd: Float[Tensor, "outliers channels"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean logistic loss over this process's rows and the outliers, which all processes have alike; how many of each psi tells rightly."""
        said, said_odd = self.psi(features)[:, 0], self.psi(odd)[:, 0]
        total = F.softplus(-said).sum() + F.softplus(said_odd).sum() / world()
        count = torch.tensor(len(said) + len(odd) / world(), dtype=torch.float64)
        return global_mean(total, count).to(features.dtype), (said > 0).sum(), (said_odd <= 0).sum()


@torch.no_grad()
def boundary_outliers(
    queues: Float[Tensor, "classes length channels"], recipe: NPOSRecipe, generator: torch.Generator
) -> Float[Tensor, "outliers channels"]:
    """The outliers of a step, picks x keep of each class. Which vectors of the boundary is drawn by class; the
    normal draws are the same around all of them, as in the public code."""
    how = {"generator": generator, "device": queues.device}
    draws = recipe.spread * torch.randn(recipe.draws, queues.shape[2], dtype=queues.dtype, **how)
    picked = [torch.randperm(recipe.boundary, **how)[: recipe.picks] for _ in queues]
    return torch.cat([around(queue, draws, which, recipe) for queue, which in zip(queues, picked)])


def around(
    queue: Float[Tensor, "length channels"], draws: Float[Tensor, "draws channels"], which: Int64[Tensor, " picks"],
    recipe: NPOSRecipe,
) -> Float[Tensor, "outliers channels"]:  # fmt: skip
    """Of one class: the candidates q + e around the vectors q that are the `which`-th farthest from their class, and of those around each the
    `keep` farthest from the queue."""
    edge = queue[farness(queue, queue, recipe.neighbours).topk(recipe.boundary).indices[which]]
    candidates = edge[:, None] + draws
    far = farness(candidates.flatten(0, 1), queue, recipe.neighbours).view(candidates.shape[:2])
    if recipe.selection == "as_published":
        far = far.flatten().view(len(draws), len(edge)).T
    kept = far.topk(recipe.keep, dim=1).indices
    return candidates[torch.arange(len(edge), device=queue.device)[:, None], kept].flatten(0, 1)


def farness(
    rows: Float[Tensor, "rows channels"], bank: Float[Tensor, "length channels"], k: int
) -> Float[Tensor, " rows"]:
    """Half the squared distance of each row to its k-th nearest of `bank`, all scaled to length 1."""
    return (1 - F.normalize(rows, dim=1) @ F.normalize(bank, dim=1).T).kthvalue(k, dim=1).values


_AUTHORS = NPOSRecipe()
_SHORT = replace(_AUTHORS, epochs=100, lr=0.1, lr_end=1e-4, outliers_from=40, origin="short")
_CODE, _OPENOOD = "NPOS's public code", "OpenOOD's configuration: 100 epochs"
_SMALL = {"queue": 200, "neighbours": 60, "boundary": 40, "draws": 120, "keep": 40}
_TUNED = NPOSRecipe(epochs=10, lr=0.01, lr_end=1e-5, area_low=0.4, outliers_from=4, origin="ours", **_SMALL)
_HERE = NPOSRecipe(epochs=30, batch_size=128, lr=0.2, lr_end=2e-4, warmup_epochs=2, precision="float32", outliers_from=10, origin="ours", **_SMALL)  # fmt: skip
PRESETS = presets_of("knn:k=300", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, _OPENOOD),
    "cifar100": (replace(_AUTHORS, alpha=0.5), _CODE),
    "cifar100-short": (replace(_SHORT, alpha=0.5), _OPENOOD),
    "imagenet100": (_TUNED, "none that can be run: CIDER's fine-tuning; give --weights or --start"),
    "shapes": (_HERE, "ours: the generated benchmark"),
}, shapes="knn:k=100")  # fmt: skip
METHOD = Method("npos", NPOS, PRESETS, title="NPOS", by_name=True)
