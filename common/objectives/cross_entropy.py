"""Plain classification, and the presets that other methods start from too."""

from dataclasses import fields, replace

import torch.nn.functional as F
from torch import Tensor

from common.backbones.classifier import Classifier
from common.training.custom import CUSTOM, PRESET
from common.training.distributed import over_batch
from common.training.method import Method, Preset
from common.training.objective import Batch, Clock, Objective, accuracy
from common.training.recipe import TrainRecipe


class CrossEntropy(Objective):
    """Plain classification (LBF Eq. 2)."""

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.flat)
        loss = over_batch(F.cross_entropy(logits, batch.labels), len(logits))
        return loss, {"ce": loss.detach(), "train_accuracy": accuracy(logits, batch.labels)}


_TAGFOG = TrainRecipe(lr=0.05, weight_decay=1e-4, drops=(0.5, 0.75, 0.9), crop="resized", jitter=True)
_CIDER = TrainRecipe(epochs=100, batch_size=256, weight_decay=1e-4, drops=(0.5, 0.75, 0.9), crop="resized", jitter=True)
_QUICK = TrainRecipe(epochs=8, schedule="one-cycle", lr=0.2, nesterov=True)
PRESETS: dict[str, Preset] = {
    "cifar10": Preset("cifar10", "resnet34", TrainRecipe(jitter=True), "LBF section 4.1; epochs, rate and decay from LogitNorm's public code"),
    "cifar100": Preset("cifar100", "resnet34", TrainRecipe(jitter=True), "as cifar10"),
    "imagenet100": Preset("imagenet100", "resnet50", _TAGFOG, "LBF section 4.1; epochs, rate and decay from TagFog's public code"),
    "imagenet100-short": Preset("imagenet100", "resnet50", TrainRecipe(epochs=100, batch_size=256, weight_decay=1e-4, drops=(0.3, 0.6, 0.9), crop="resized", jitter=True), "customary, cheaper"),
    "cifar10-cider": Preset("cifar10", "resnet34", _CIDER, "the cross-entropy script of CIDER's public code"),
    "cifar100-cider": Preset("cifar100", "resnet34", _CIDER, "the cross-entropy script of CIDER's public code"),
    "cifar10-quick": Preset("cifar10", "resnet18", _QUICK, "ours: minutes, for trying things out"),
    "cifar100-quick": Preset("cifar100", "resnet18", _QUICK, "ours: minutes, for trying things out"),
    "shapes": Preset("shapes", "resnet8", TrainRecipe(epochs=20, batch_size=64, schedule="one-cycle", precision="float32"), "ours: the generated benchmark; docs/results/quickstart.md"),
    CUSTOM: PRESET,
}  # fmt: skip
METHOD = Method("cross-entropy", CrossEntropy, PRESETS, title="pre-trained")


def presets_for(objective: type[Objective]) -> dict[str, Preset]:
    """These presets for a method that has none of its own: their values, but for fields that its recipe declares itself."""
    theirs = objective.Recipe.__dataclass_fields__
    kept = [field.name for field in fields(TrainRecipe) if theirs[field.name] is field]

    def recipe(preset: Preset) -> TrainRecipe:
        return objective.Recipe(**{name: getattr(preset.recipe, name) for name in kept})

    return {name: replace(preset, recipe=recipe(preset)) for name, preset in PRESETS.items()}
