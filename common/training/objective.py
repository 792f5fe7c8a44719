"""What a training method is: a module whose forward is the step.

Its parameters go to the optimizer, its buffers to the checkpoint; both through `state_dict`, so an objective's own state is saved, moved
and resumed without further code. The step calls the network itself (`model.feature_map`, `model.pool`, `model.head`), as often
as it needs; the trainer never runs a forward pass of its own. Feature maps leave the network in float32, so losses are in float32.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import Classifier
from common.data.masks import StoredMasks
from common.training.recipe import TrainRecipe


@dataclass(frozen=True)
class Batch:
    """One step's images, in [0, 1], and what is known of them. `labels` are 0..K-1."""

    images: Float[Tensor, "views batch 3 height width"]
    labels: Int64[Tensor, " batch"]
    index: Int64[Tensor, " batch"]  # row in the data set
    masks: Bool[Tensor, "views batch height width"] | Int64[Tensor, "views batch height width"] | None = None

    @property
    def flat(self) -> Float[Tensor, "rows 3 height width"]:
        """All views as one batch, first views first: batch norm then sees them together."""
        return self.images.flatten(0, 1)

    @property
    def flat_masks(self) -> Tensor | None:
        """The masks of `flat`, moved as their images were: True or 1 = foreground, IGNORE (where a method scales) = padding."""
        return None if self.masks is None else self.masks.flatten(0, 1)


@dataclass(frozen=True)
class Clock:
    """Where training stands. `generator` lives on the batch's device and is seeded anew each step, for an objective's own draws."""

    epoch: int
    epochs: int
    step: int  # from 0, over the whole run
    steps_per_epoch: int
    generator: torch.Generator


class Objective(nn.Module):
    """Base of all training methods.

    `forward(model, batch, clock)` returns the loss and numbers to log: detached tensors, either of shape () (averaged over the epoch's
    steps) or of shape (2,), a numerator and a denominator that are summed over the epoch before they are divided. It never augments: it gets
    `views` views of each image, and `masks` moved as their images were.
    """

    Recipe: type[TrainRecipe] = TrainRecipe  # what it must know; a subclass's own fields add flags of these names
    views: int = 1  # augmented views of each image
    masks: StoredMasks | None = None  # those of the training set, where the step reads any
    uses_head: bool = True  # False: the classifier's head is left out of the optimizer
    extra_classes: int = 0  # outputs beyond the K classes, 1 for a background class
    optimizer: type[torch.optim.SGD] = torch.optim.SGD  # or one made like it
    uses_all: bool = True  # False: some steps leave parameters of its own out (data-parallel training must know)

    def __init__(self, recipe: TrainRecipe | None = None):
        super().__init__()
        self.recipe = recipe

    def groups(self) -> list[dict[str, Any]]:
        """Optimizer groups for the objective's own parameters; `lr_scale` multiplies the recipe's rate."""
        parameters = list(self.parameters())
        return [{"params": parameters, "lr_scale": 1.0}] if parameters else []

    def build(self, model: Classifier) -> None:
        """Makes the parts whose size depends on the network: its width `model.channels`, its outputs `model.classes`. Once, before all else,
        with torch's generator seeded by the run."""

    def prepare(self, model: Classifier, images: Any) -> None:
        """Once before the first step; not after a resume."""

    def finish(self, model: Classifier, images: Any) -> None:
        """Once after the last step, before the finished checkpoint is written: a head for a method that trains none, say."""

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        raise TypeError(f"{type(self).__name__} does not say what its step is")

    def after_step(self, model: Classifier, clock: Clock) -> None: ...

    def after_epoch(self, model: Classifier, clock: Clock) -> None: ...


def ratio(numerator: Tensor, denominator: Tensor | int) -> Float[Tensor, " 2"]:
    """A number to log that is a share or a mean over a varying count."""
    numerator = numerator.detach().float()
    return torch.stack([numerator, torch.as_tensor(denominator).to(numerator)])


def accuracy(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"]) -> Float[Tensor, " 2"]:
    return ratio((logits.argmax(1) == labels).sum(), len(labels))
