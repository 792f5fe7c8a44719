"""Cross-entropy on pairs of mixed images, and the first stage of DFB, which is trained so."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from common.backbones.classifier import HALF_STATS, Classifier, Normalise
from common.cli.errors import UserError
from common.cli.recipes import choice, number, numbers, switch
from common.data.transforms import DFB
from common.objectives.cross_entropy import CrossEntropy
from common.training.augment import Augmentation
from common.training.distributed import all_rows, over_batch, share
from common.training.method import Given, Method, Preset, Training
from common.training.objective import Batch, Clock, Objective, accuracy
from common.training.recipe import TrainRecipe


@dataclass(frozen=True)
class BiTRecipe(TrainRecipe):
    """Fine-tuning of a large network on enlarged images, with mixup and a head of zeros (DFB section 4.1; BiT's rule)."""

    drop_last: bool = switch(False, why="drop an epoch's last, incomplete batch; kept in DFB's code")
    lr: float = number(0.003, low=0, why="highest learning rate; DFB")
    weight_decay: float = number(0.0, low=0, why="L2; 0 as in BiT's rule and DFB's code")
    drops: tuple[float, ...] = numbers(
        (0.3, 0.6, 0.9), low=0, high=1, why="shares of the run after which the rate is divided by 10; DFB"
    )
    warmup_steps: int = number(500, low=0, why="steps of linear warm-up from 0; BiT's rule and DFB's code")
    crop: str = choice(
        "window", ("window", "none"), why="random part of the enlarged image, or images at their final size; DFB"
    )
    resize_px: int = number(160, low=8, why="side images are resized to before crop window, pixels; DFB")
    mixup: float = number(0.1, low=0, why="alpha of Beta(alpha, alpha), one share a batch; 0 = none; DFB 0.1")
    window_px: int = 0  # the network's input side; set when the run begins

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(crop=self.crop, window_px=self.window_px, flip=self.flip, jitter=self.jitter)


class Mixup(Objective):
    """Cross-entropy on pairs of images mixed by one share a batch, Beta(alpha, alpha) (DFB section 4.1, BiT's rule)."""

    Recipe = BiTRecipe

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        images, partner, weight = mixup(
            all_rows(batch.flat), self.alpha, clock.generator
        )  # partners may be another process's images
        other = share(all_rows(batch.labels)[partner])
        logits, weight = model(share(images)), weight.to(images.dtype)
        loss = weight * F.cross_entropy(logits, batch.labels) + (1 - weight) * F.cross_entropy(logits, other)
        loss = over_batch(loss, len(logits))
        larger = torch.where(weight >= 0.5, batch.labels, other)
        return loss, {"ce": loss.detach(), "train_accuracy": accuracy(logits, larger)}


def mixup(
    images: Float[Tensor, "batch 3 height width"], alpha: float, generator: torch.Generator
) -> tuple[Float[Tensor, "batch 3 height width"], Int64[Tensor, " batch"], Tensor]:
    """Each image mixed with a partner: share * image + (1 - share) * partner, one share ~ Beta(alpha, alpha) a batch (DFB section 4.1).

    Returns the mixed images, the partners' rows, and the share as a 0-d tensor. The loss is mixed by the caller the same way.
    """
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    share = _beta(alpha, generator, images.device)
    weight = share.to(images.dtype)
    return weight * images + (1 - weight) * images[partner], partner, share


def _beta(alpha: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """One draw of Beta(alpha, alpha) by Johnk's way: (u, v) uniform, u^(1/a) + v^(1/a) <= 1. Sixty-four tries; 0.5 if none fits."""
    log_u, log_v = (
        torch.rand(2, 64, generator=generator, device=device, dtype=torch.float64).clamp_min(1e-300).log() / alpha
    ).unbind(0)
    log_sum = torch.logaddexp(log_u, log_v)
    fits = log_sum <= 0
    first = fits.int().argmax()
    return torch.where(fits.any(), (log_u[first] - log_sum[first]).exp(), 0.5)


def begin(given: Given) -> Training:
    """Images enlarged, to be cut to the network's side; mean and std 1/2, the head zero, as BiT's rule has it."""
    recipe, side = given.recipe, given.transform.size_px
    enlarged = given.transform
    if recipe.crop == "window":
        enlarged = replace(enlarged, size_px=recipe.resize_px, resize_px=None)
    if enlarged.size_px < side:
        raise UserError(f"resize_px must be >= the images' final side, {side}, got {enlarged.size_px}")
    images = given.images(enlarged)
    model = given.new_network(images)
    model.normalise = Normalise(HALF_STATS)
    nn.init.zeros_(model.head.weight), nn.init.zeros_(model.head.bias)
    objective = Mixup(recipe.mixup) if recipe.mixup > 0 else CrossEntropy()
    return Training(model, objective, images, replace(recipe, window_px=side))


PRESETS = {
    f"dfb-{name}": Preset(name, "bit-r50x1", BiTRecipe(steps=20_000), "DFB section 4.1, stage 1", DFB)
    for name in ("cifar10", "cifar100")
}
METHOD = Method("mixup", Mixup, PRESETS, title="pre-trained", begin=begin)
