"""CSI, second of two runs: a linear head of 4 K classes, image class and turn, on the features of the first (Tack et al., NeurIPS 2020).

What it leaves is a network whose logits are the mean over the four turns of an image of the logits that belong to the turn: the rotation-averaged
joint logits, which the largest softmax is taken of.
"""

import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.backbones import build
from common.backbones.classifier import Classifier
from common.backbones.rotated import TURNS
from common.cli.errors import UserError
from common.cli.recipes import choice, number, numbers, switch
from common.objectives import csi
from common.objectives.csi import all_turned, turned_labels
from common.training.distributed import over_batch
from common.training.method import Given, Method, Training, presets_of
from common.training.objective import Batch, Clock, Objective, accuracy
from common.training.recipe import BaselineRecipe
from common.training.seeds import seeded


@dataclass(frozen=True)
class CSILinearRecipe(BaselineRecipe):
    """CSI's second run; the defaults are those of its public code."""

    epochs: int = number(100, low=1, why="passes over the training set; CSI's public code")
    batch_size: int = number(32, low=1, why="images a step, each seen 4 times, over all processes; CSI's public code")
    momentum: float = number(0.0, low=0, high=1, why="of SGD; CSI's public code: none")
    weight_decay: float = number(1e-6, low=0, why="L2 on the head; CSI's public code")
    drops: tuple[float, ...] = numbers((0.6, 0.75, 0.9), low=0, high=1, why="shares of the run after which the rate is divided by 10; public code")  # fmt: skip
    crop: str = choice(
        "resized", ("pad", "resized", "none"), why="random crop; public code: a resized part of the area"
    )
    area_low: float = number(0.08, low=0.01, high=1, why="smallest share of the area of the crop; CSI's public code")
    jitter: bool = switch(True, why="colour jitter .4/.4/.4/.1 with probability 0.8; CSI's public code")
    grey: float = number(0.2, low=0, high=1, why="probability that an image loses its colours; CSI's public code")


class CSILinear(Objective):
    """Cross-entropy of y + K r on images of class y turned r times; the network's body stays as it is."""

    Recipe = CSILinearRecipe
    views, uses_head = TURNS, False  # the head is made of the joint one at the end

    def build(self, model: Classifier) -> None:
        if model.channels % TURNS or not model.name.startswith("rotated:"):
            raise UserError(f"csi-linear wants a network of four turns, rotated:{model.name}, got {model.name}")
        self.joint = nn.Linear(model.channels // TURNS, TURNS * model.classes)
        model.body.requires_grad_(False)

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        model.body.eval()
        images, once = all_turned(batch.images), model.body.body
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=model.bf16):
            features = model.pool(once(model.normalise(images)).to(images.dtype))
        logits, labels = self.joint(features), turned_labels(batch.labels.expand(TURNS, -1), model.classes)
        loss = over_batch(F.cross_entropy(logits, labels), len(logits))
        of_turn = logits.detach().unflatten(0, (TURNS, -1)).unflatten(2, (TURNS, -1)).diagonal(dim1=0, dim2=2)
        logs = {"ce": loss.detach(), "joint_accuracy": accuracy(logits, labels)}
        return loss, logs | {"train_accuracy": accuracy(of_turn.mean(2), batch.labels)}

    @torch.no_grad()
    def finish(self, model: Classifier, images: object) -> None:
        """The head of the network of four turns: on the features of turn r the rows K r .. K r + K - 1 of the joint head, over 4."""
        weight = self.joint.weight.unflatten(0, (TURNS, -1)).transpose(0, 1).flatten(1)
        model.head.weight.copy_(weight / TURNS)
        model.head.bias.copy_(self.joint.bias.unflatten(0, (TURNS, -1)).mean(0))


def begin(given: Given) -> Training:
    """The first run's body, seen four times, and images of the same classes."""
    start, facts = given.start, given.start_facts
    if start is None or facts["method"] != csi.METHOD.title:
        got = "none" if start is None else f"one of {facts['method']}"
        raise UserError(f"csi-linear goes on from a finished run of csi: give it as --start CHECKPOINT, got {got}")
    images = given.images()
    if list(images.classes) != facts["classes"]:
        raise UserError(f"csi-linear wants the classes of its start, {facts['id_set']}, got those of {given.id_set}")
    with seeded(given.run.seed, "initialisation"):
        model = build(f"rotated:{start.name}", len(images.classes))
    model.body.body, model.normalise = copy.deepcopy(start.body), copy.deepcopy(start.normalise)
    with seeded(given.run.seed, "objective start"):
        objective = CSILinear(given.recipe)
        objective.build(model)
    return Training(model, objective, images, given.recipe)


_AUTHORS = CSILinearRecipe()
_SHORT = replace(_AUTHORS, batch_size=128, origin="short")
_HERE = CSILinearRecipe(
    epochs=12, batch_size=64, momentum=0.9, schedule="one-cycle", area_low=0.2, precision="float32", origin="ours"
)
_NET = CSILinearRecipe(epochs=10, batch_size=64, momentum=0.9, schedule="cosine", area_low=0.4, origin="ours")
_CODE = "CSI's public code; give --start"
PRESETS = presets_of("msp", {
    "cifar10": (_AUTHORS, _CODE),
    "cifar10-short": (_SHORT, "OpenOOD's configuration: batch 128"),
    "cifar100": (_AUTHORS, _CODE),
    "cifar100-short": (_SHORT, "OpenOOD's configuration: batch 128"),
    "imagenet100": (_NET, "none published; give --start"),
    "shapes": (_HERE, "ours: the generated benchmark"),
})  # fmt: skip
METHOD = Method("csi-linear", CSILinear, PRESETS, title="CSI", begin=begin, by_name=True)
