"""DML+'s first network: focal loss of cosines, for features whose direction tells (Zhang & Xiang, CVPR 2023)."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.cli.recipes import number
from common.training.distributed import over_batch
from common.training.method import Method, Preset, presets_of
from common.training.objective import Batch, Clock, Objective, accuracy, ratio
from common.training.recipe import BaselineRecipe


@dataclass(frozen=True)
class FocalRecipe(BaselineRecipe):
    """No recipe of the authors' is public; gamma and length are those of OpenHAIV, the rest is this suite's."""

    epochs: int = number(100, low=1, why="passes over the training set; the paper's, as far as is known")
    gamma: float = number(2.0, low=0, why="of the focal loss: how much less easy images count; OpenHAIV")
    length: float = number(
        40.0, low=1e-3, why="that features have in training: cosines times this are logits; OpenHAIV"
    )
    origin: str = "ours"
    role: str = "direction"  # in the pair of networks that dml+ scores. No flag


class CosineHead(Objective):
    """Base of both networks of DML+: the head's rows have length 1 and no bias, and are left so in the finished network."""

    def build(self, model: Classifier) -> None:
        nn.init.zeros_(model.head.bias)
        model.head.bias.requires_grad_(False)

    @torch.no_grad()
    def finish(self, model: Classifier, images: object) -> None:
        model.head.weight.copy_(F.normalize(model.head.weight, dim=1))


class Focal(CosineHead):
    """Focal loss of length x cosine (the paper's DML+, network for MaxCosine)."""

    Recipe = FocalRecipe

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        cosines = F.normalize(model.penultimate(batch.flat), dim=1) @ F.normalize(model.head.weight, dim=1).T
        loss = over_batch(focal_loss(self.recipe.length * cosines, batch.labels, self.recipe.gamma), len(cosines))
        largest = cosines.detach().amax(1)
        logs = {"max_cosine": ratio(largest.sum(), len(largest)), "train_accuracy": accuracy(cosines, batch.labels)}
        return loss, logs


def focal_loss(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], gamma: float) -> Tensor:
    """Mean of (1 - p)^gamma times the cross-entropy, p the probability of the image's class (Lin et al. 2017, Eq. 4)."""
    log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    # At p = 1 a power below 1 would have an infinite gradient.
    rest = -torch.expm1(log_p)
    return -(rest.clamp_min(torch.finfo(rest.dtype).tiny) ** gamma * log_p).mean()


def presets(recipe: BaselineRecipe) -> dict[str, Preset]:
    """Of both networks."""
    source, net = (
        "none published: 100 epochs, cross-entropy's rates here",
        {"lr": 0.05, "weight_decay": 1e-4, "crop": "resized"},
    )
    short, here = (
        replace(recipe, epochs=50, origin="short"),
        {"epochs": 12, "schedule": "one-cycle", "precision": "float32"},
    )
    return presets_of("dml+", {
        "cifar10": (recipe, source),
        "cifar10-short": (short, "ours: half of the epochs"),
        "cifar100": (recipe, source),
        "cifar100-short": (short, "ours: half of the epochs"),
        "imagenet100": (replace(recipe, **net), source),
        "shapes": (replace(recipe, **here), "ours: the generated benchmark"),
    })  # fmt: skip


METHOD = Method("dml-focal", Focal, presets(FocalRecipe()), title="DML+ focal", by_name=True)
