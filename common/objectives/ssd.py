"""SSD+: supervised contrastive learning, scored by a Gaussian of the features (Sehwag et al., ICLR 2021)."""

from dataclasses import dataclass

from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.recipes import number
from common.objectives.contrastive import Contrastive, ContrastiveRecipe, cosine_within, supervised_contrastive_loss
from common.training.method import Method, presets_of
from common.training.objective import Batch, Clock


@dataclass(frozen=True)
class SSDRecipe(ContrastiveRecipe):
    """SSD+'s training; the defaults are those of its public code, but for the temperature: its script's 0.5 serves the form without labels too,
    and which one the paper's SSD+ has is not said. 0.1 as other users of SupCon."""

    epochs: int = number(510, low=1, why="passes over the training set, 10 of them warm-up; SSD's public code")
    lr_end: float = number(1e-4, low=0, why="rate that the cosine falls to; SSD's public code")
    warmup_lr: float = number(0.01, low=0, why="rate at which the warm-up begins; SSD's public code")


class SSD(Contrastive):
    """SupCon on two views of each image (Eq. 4 of the paper)."""

    Recipe = SSDRecipe

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        z, labels = self.rows(model.pool(model.feature_map(batch.flat)), batch)
        loss = self.recipe.factor_of_loss * supervised_contrastive_loss(z, labels, self.recipe.tau)
        return loss, {"cosine_within": cosine_within(z, labels)}


_AUTHORS = SSDRecipe()
_SHORT = SSDRecipe(epochs=110, origin="short")
_TUNED = SSDRecipe(epochs=10, lr=0.01, warmup_epochs=0, warmup_lr=0.0, lr_end=1e-5, area_low=0.4, origin="ours")
_CODE, _LESS = "SSD's public code; temperature: CIDER's", "ours: a fifth of the epochs"
_HERE = SSDRecipe(epochs=30, batch_size=128, lr=0.2, warmup_epochs=2, precision="float32", origin="ours")
PRESETS = presets_of("ssd", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, _LESS),
    "cifar100": (_AUTHORS, _CODE),
    "cifar100-short": (_SHORT, _LESS),
    "imagenet100": (_TUNED, "none published: CIDER's fine-tuning; give --weights or --start"),
    "shapes": (_HERE, "ours: the generated benchmark"),
})  # fmt: skip
METHOD = Method("ssd+", SSD, PRESETS, title="SSD+", by_name=True)
