"""CSI, first of two runs: supervised contrastive learning in which a turned image is of another class (Tack et al., NeurIPS 2020).

The second run, csi_linear.py, makes it the network that is scored.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.backbones.rotated import TURNS, turned
from common.cli.recipes import choice, number
from common.objectives.contrastive import (
    Contrastive,
    ContrastiveRecipe,
    Unit,
    cosine_within,
    supervised_contrastive_loss,
)
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock
from common.training.optimizer import LARS

EPS = 1e-8  # of the public code's loss, within its logarithms


@dataclass(frozen=True)
class CSIRecipe(ContrastiveRecipe):
    """CSI's first run, with labels; the defaults are those of its public code on four GPUs."""

    epochs: int = number(700, low=1, why="passes over the training set; CSI's public code")
    batch_size: int = number(
        128, low=1, why="images a step, each seen 8 times, over all processes; public code: 32 a GPU"
    )
    optimizer: str = choice("lars", ("lars", "sgd"), why="LARS over SGD, or SGD; CSI's public code")
    lr: float = number(1.0, low=0, why="highest learning rate; CSI's public code: 0.1, times 10 after the warm-up")
    warmup_lr: float = number(0.1, low=0, why="rate at which the warm-up begins; CSI's public code")
    weight_decay: float = number(1e-6, low=0, why="L2 on all parameters, batch norm included; CSI's public code")
    area_low: float = number(0.08, low=0.01, high=1, why="smallest share of the area of the crop; CSI's public code")
    tau: float = number(0.07, low=1e-3, why="temperature, on cosines; CSI's public code")
    loss: str = choice(
        "supcon",
        ("supcon", "as_published"),
        why="SupCon, or what the public code takes for it: an image counts among its own positives, logarithms from 1e-8 on",
    )


class CSI(Contrastive):
    """SupCon of 4 K classes on two views of each image under each of four turns (the paper's form with labels)."""

    Recipe = CSIRecipe
    views = 2 * TURNS  # each is cropped, flipped and coloured by itself

    @property
    def optimizer(self) -> type[torch.optim.SGD]:
        return LARS if self.recipe.optimizer == "lars" else torch.optim.SGD

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        z, labels = self.rows(model.pool(model.feature_map(all_turned(batch.images))), batch)
        labels = turned_labels(labels.view(self.views, -1), model.classes)
        loss_of = {"supcon": supervised_contrastive_loss, "as_published": published_loss}[self.recipe.loss]
        loss = self.recipe.factor_of_loss * loss_of(z, labels, self.recipe.tau)
        return loss, {"cosine_within": cosine_within(z.detach(), labels)}


def all_turned(views: Float[Tensor, "views batch 3 height width"]) -> Float[Tensor, "rows 3 height width"]:
    """The views as one batch, the v-th turned by v right angles: as the public code has them, turns within views."""
    return torch.cat([turned(view, v % TURNS) for v, view in enumerate(views)])


def turned_labels(labels: Int64[Tensor, "views batch"], classes: int) -> Int64[Tensor, " rows"]:
    """y + K r of an image of class y turned r times."""
    turns = torch.arange(len(labels), device=labels.device) % TURNS
    return (labels + classes * turns[:, None]).flatten()


def published_loss(z: Unit, labels: Int64[Tensor, " rows"], tau: float) -> Tensor:
    """CSI's `Supervised_NT_xent`: the row itself is one of its positives, with probability 0, and 1e-8 is added within and to the softmax."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    cosines = z @ z.T
    scaled = ((cosines - cosines.detach().amax(1, keepdim=True)) / tau).exp().masked_fill(itself, 0)
    log_probability = (scaled / (scaled.sum(1, keepdim=True) + EPS) + EPS).log()
    positive = (labels[:, None] == labels).to(z.dtype)
    return -(positive * log_probability).sum(1).div(positive.sum(1) + EPS).mean()


_AUTHORS = CSIRecipe()
_SGD = replace(_AUTHORS, batch_size=64, optimizer="sgd", warmup_epochs=0, warmup_lr=0.0)
_SHORT = replace(_SGD, epochs=100, lr=0.1, origin="short")
_NET = replace(_SGD, epochs=10, lr=0.01, area_low=0.4, tau=0.1, origin="ours")
_HERE = replace(_SGD, epochs=12, lr=0.1, warmup_epochs=1, area_low=0.2, tau=0.1, precision="float32", origin="ours")
_CODE, _OPENOOD = "CSI's public code", "OpenOOD's configuration: 100 epochs"
PRESETS = presets_of("msp", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, _OPENOOD),
    "cifar100": (_AUTHORS, _CODE),
    "cifar100-short": (_SHORT, _OPENOOD),
    "imagenet100": (_NET, "none published: CIDER's fine-tuning; give --weights or --start"),
    "shapes": (_HERE, "ours: the generated benchmark"),
})  # fmt: skip
METHOD = Method("csi", CSI, PRESETS, title="CSI stage 1", by_name=True)
