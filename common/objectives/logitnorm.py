"""LogitNorm: cross-entropy of logits of unit length (Wei et al., ICML 2022)."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.recipes import number
from common.training.distributed import over_batch
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock, Objective, accuracy, ratio
from common.training.recipe import BaselineRecipe

FLOOR = 1e-7  # added to the norm, as in the public code


@dataclass(frozen=True)
class LogitNormRecipe(BaselineRecipe):
    """LogitNorm's training; the defaults are those of its public code."""

    tau: float = number(
        0.04, low=1e-4, why="temperature, on unit logits; paper, CIFAR-10. More classes want a smaller one"
    )


class LogitNorm(Objective):
    """Cross-entropy of f / (tau |f|), f the logits (Eq. 5 of the paper)."""

    Recipe = LogitNormRecipe

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.flat)
        loss = over_batch(logit_norm_loss(logits, batch.labels, self.recipe.tau), len(logits))
        norm = torch.linalg.vector_norm(logits.detach(), dim=1)
        return loss, {"logit_norm": ratio(norm.sum(), len(norm)), "train_accuracy": accuracy(logits, batch.labels)}


def logit_norm_loss(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], tau: float) -> Tensor:
    """Mean cross-entropy of f / ((|f| + 1e-7) tau). Where |f| is below 1e-7 the loss is log K and has no gradient: it would be of order 1e7 / tau."""
    norm = torch.linalg.vector_norm(logits, dim=1, keepdim=True)
    scaled = logits / ((norm + FLOOR) * tau)
    return F.cross_entropy(torch.where(norm > FLOOR, scaled, scaled.detach()), labels)


_AUTHORS = LogitNormRecipe()
_SHORT = LogitNormRecipe(epochs=100, schedule="cosine", lr_end=1e-6, nesterov=True, origin="short")
_CODE, _OPENOOD = "LogitNorm's public code", "OpenOOD's configuration: 100 epochs"
PRESETS = presets_of("msp", {
    "cifar10": (_AUTHORS, f"{_CODE}; tau of the paper"),
    "cifar10-short": (_SHORT, _OPENOOD),
    "cifar100": (replace(_AUTHORS, tau=0.01), f"{_CODE}; tau: its authors advise about 0.0085"),
    "cifar100-short": (_SHORT, _OPENOOD),
    "imagenet100": (LogitNormRecipe(lr=0.05, weight_decay=1e-4, drops=(0.5, 0.75, 0.9), crop="resized", tau=0.01, origin="ours"), "none published: cross-entropy's recipe here"),
    "shapes": (LogitNormRecipe(epochs=12, schedule="one-cycle", precision="float32", tau=0.1, origin="ours"), "ours: the generated benchmark"),
})  # fmt: skip
METHOD = Method("logitnorm", LogitNorm, PRESETS, title="LogitNorm", by_name=True)
