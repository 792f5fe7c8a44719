"""TagFog: jigsawed images as a class of outliers, features drawn to a text's vector of their class (Chen et al., AAAI 2024)."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.recipes import choice, number, numbers, switch
from common.data.jigsaw import with_jigsaw
from common.objectives.anchors import WHAT, random_anchors, read_anchors
from common.objectives.contrastive import BASE_TAU, Unit, supervised_contrastive_loss, whole
from common.training.distributed import all_rows, gather_rows, over_batch
from common.training.method import Given, Method, Training, presets_of
from common.training.objective import Batch, Clock, Objective, ratio
from common.training.recipe import BaselineRecipe
from common.training.seeds import derive, seeded


@dataclass(frozen=True)
class TagFogRecipe(BaselineRecipe):
    """TagFog's training; the defaults are those of its public code for CIFAR-10."""

    batch_size: int = number(512, low=1, why="images a step, jigsawed ones counted, over all processes; public code")
    lr: float = number(0.05, low=0, why="highest learning rate; TagFog's public code")
    weight_decay: float = number(1e-4, low=0, why="L2 on all parameters, batch norm included; TagFog's public code")
    drops: tuple[float, ...] = numbers((0.75, 0.9), low=0, high=1, why="shares of the run after which the rate is divided by 10; public code")  # fmt: skip
    warmup_epochs: int = number(10, low=0, why="first epochs, in which the rate rises linearly; TagFog's public code")
    warmup_lr: float = number(0.01, low=0, why="rate at which the warm-up begins; TagFog's public code")
    crop: str = choice(
        "resized", ("pad", "resized", "none"), why="random crop; public code: a resized part of the area"
    )
    jitter: bool = switch(True, why="colour jitter .4/.4/.4/.1 with probability 0.8; TagFog's public code")
    grey: float = number(0.2, low=0, high=1, why="probability that an image loses its colours; TagFog's public code")
    sync_bn: bool = switch(True, why="over several processes, batch statistics of the global batch; needs GPUs")
    pieces: int = number(
        4, low=2, high=16, why="tiles a side of a jigsawed image; TagFog's public code, ImageNet-100 8"
    )
    copies: int = number(
        2, low=1, high=16, why="jigsawed images of each image; TagFog's public code, CIFAR-100 and ImageNet-100 1"
    )
    alpha: float = number(1.0, low=0, why="of the text loss, no unit; TagFog's public code")
    beta: float = number(1.0, low=0, why="of the contrastive loss, no unit; TagFog's public code")
    tau: float = number(0.1, low=1e-3, why="temperature of both, on cosines; TagFog's public code")
    scale: bool = switch(True, why="multiply the contrastive loss by tau / 0.07, as the public code does")
    width: int = 768  # of the anchors, CLIP ViT-L/14's; a file's own. No flag
    anchored_by: str = ""  # "random", or the digest of the file's. No flag of the recipe; in every row of results


class TagFog(Objective):
    """Cross-entropy of K + 1 classes, plus alpha times the text loss, plus beta times SupCon (the paper's total loss).

    The output of the jigsawed class is a layer of the objective's own beside the classifier's K: together they are the head of K + 1 outputs that
    is trained, and what is left at the end is a network of K, which is what is scored.
    """

    Recipe = TagFogRecipe
    views = 2

    def build(self, model: Classifier) -> None:
        width = model.channels
        self.fog = nn.Linear(width, 1)
        self.project = nn.Sequential(
            nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, self.recipe.width)
        )  # fmt: skip
        self.register_buffer("anchors", random_anchors(model.classes, self.recipe.width))

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        r, features, labels = self.recipe, model.pool(model.feature_map(batch.flat)), batch.labels.repeat(self.views)
        logits = torch.cat([model.head(features), self.fog(features)], dim=1)
        v = F.normalize(self.project(features), dim=1)
        ce = over_batch(F.cross_entropy(logits, labels), len(labels))
        text = over_batch(text_loss(v, self.anchors, labels, r.tau), len(labels))
        every, every_label = whole(v, self.views, gather_rows), all_rows(batch.labels).repeat(self.views)
        supcon = (r.tau / BASE_TAU if r.scale else 1) * supervised_contrastive_loss(every, every_label, r.tau)
        right, odd = logits.argmax(1) == labels, labels == model.classes
        logs = {"ce": ce.detach(), "text": text.detach(), "supcon": supcon.detach()}
        logs["train_accuracy"] = ratio((right & ~odd).sum(), (~odd).sum())
        logs["jigsaw_recall"] = ratio((right & odd).sum(), odd.sum())
        return ce + r.alpha * text + r.beta * supcon, logs


def text_loss(v: Unit, anchors: Float[Tensor, "classes width"], labels: Int64[Tensor, " rows"], tau: float) -> Tensor:
    """Cross-entropy of v . t_k / tau over the classes' anchors t, rows of label K counted as 0: divided by all rows, as in the public code."""
    rows = F.cross_entropy(v @ anchors.T / tau, labels, ignore_index=len(anchors), reduction="sum")
    return rows / len(v)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--anchors", default=None, metavar="FILE", help=f"the classes' vectors: {WHAT} [the preset's]")


def begin(given: Given) -> Training:
    """The anchors first: their width is the projection's."""
    images, recipe, asked = given.images(), given.recipe, given.own["anchors"]
    asked = recipe.anchored_by if asked is None else asked
    if not asked:
        raise UserError(f"tagfog wants --anchors: {WHAT}; docs/baselines.md says how to make the file")
    rows, said = (
        (None, {"anchored_by": asked}) if asked == "random" else read_anchors(Path(asked), tuple(images.classes))
    )
    if asked == "random" != recipe.anchored_by and not recipe.origin.endswith("changed"):
        recipe = replace(recipe, origin=f"{recipe.origin}, changed")
    recipe = replace(recipe, anchored_by=said["anchored_by"], width=recipe.width if rows is None else rows.shape[1])
    model = given.new_network(images)
    with seeded(given.run.seed, "objective start"):
        objective = TagFog(recipe)
        objective.build(model)
    if rows is not None:
        objective.anchors.copy_(rows)
    both = with_jigsaw(images, recipe.pieces, recipe.copies, derive(given.run.seed, "jigsaw"))
    return Training(model, objective, both, recipe, said | {"train_data_sha256": images.digest})


_TEN = TagFogRecipe()
_HUNDRED = replace(_TEN, copies=1, drops=(0.75,))
_NET = TagFogRecipe(batch_size=128, warmup_epochs=0, warmup_lr=0.0, drops=(0.5, 0.75, 0.9), pieces=8, copies=1)
_CODE, _LESS = "TagFog's public code", "ours: half of the epochs"
_HERE = TagFogRecipe(epochs=12, batch_size=128, schedule="one-cycle", warmup_epochs=0, warmup_lr=0.0, copies=1, precision="float32", anchored_by="random", origin="ours")  # fmt: skip
PRESETS = presets_of("react", {
    "cifar10": (_TEN, _CODE),
    "cifar10-short": (replace(_TEN, epochs=100, origin="short"), _LESS),
    "cifar100": (_HUNDRED, _CODE),
    "cifar100-short": (replace(_HUNDRED, epochs=100, origin="short"), _LESS),
    "imagenet100": (_NET, _CODE),
    "shapes": (_HERE, "ours: the generated benchmark, random anchors"),
})  # fmt: skip
METHOD = Method("tagfog", TagFog, PRESETS, title="TagFog", begin=begin, by_name=True, add_arguments=add_arguments)
