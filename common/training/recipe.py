"""What every training run needs to know, and the learning rate that follows from it."""

import math
from dataclasses import dataclass, replace

from common.cli.errors import UserError
from common.cli.recipes import check, choice, number, numbers, switch
from common.training.augment import Augmentation


@dataclass(frozen=True)
class TrainRecipe:
    """What every training run needs to know. Methods add their own fields."""

    epochs: int = number(200, low=1, why="passes over the training set; LogitNorm's public code, the setting LBF names")
    steps: int | None = number(None, low=1, why="optimizer steps; where set, it replaces epochs")
    batch_size: int = number(128, low=1, why="images a step, over all processes; LogitNorm's public code")
    drop_last: bool = switch(True, why="drop an epoch's last, incomplete batch; customary")
    lr: float = number(0.1, low=0, why="highest learning rate; LogitNorm's public code")
    momentum: float = number(0.9, low=0, high=1, why="of SGD; LBF's setting")
    nesterov: bool = switch(False, why="Nesterov's form of momentum; off in LogitNorm's public code")
    weight_decay: float = number(5e-4, low=0, why="L2 on all parameters, batch norm included; LogitNorm's public code")
    schedule: str = choice(
        "step",
        ("step", "cosine", "one-cycle"),
        why="rate over the run: drops, cosine to 0, or up for a quarter and linearly down",
    )
    drops: tuple[float, ...] = numbers(
        (0.4, 0.7), low=0, high=1, why="shares of the run after which the rate is divided by 10 (schedule step)"
    )
    warmup_steps: int = number(0, low=0, why="steps of linear warm-up from 0")
    crop: str = choice(
        "pad",
        ("pad", "resized", "none"),
        why="random crop: pad and crop, or a resized part of the area; LBF says random crop",
    )
    crop_padding: str = choice("zero", ("zero", "reflect"), why="border of the padded crop; docs/lbf.md, difference 12")
    area_low: float = number(
        0.2, low=0.01, high=1, why="smallest share of the area for crop resized; TagFog's public code"
    )
    flip: bool = switch(True, why="random horizontal flip; LBF's setting")
    jitter: bool = switch(
        False, why="colour jitter .4/.4/.4/.1 with probability 0.8; LBF pre-training only, strengths from TagFog's code"
    )
    bn: str = choice(
        "train", ("train", "frozen"), why="batch norm: batch statistics, or running statistics left as they are"
    )
    sync_bn: bool = switch(
        False, why="over several processes, batch statistics of the global batch instead of each process's own"
    )
    precision: str = choice(
        "auto",
        ("auto", "float32", "bf16"),
        why="of the network's body; auto: bf16 where the hardware has it. Losses are float32",
    )
    channels_last: bool = switch(True, why="memory format; faster convolutions")

    def __post_init__(self):
        check(self)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(
            crop=self.crop, crop_padding=self.crop_padding, area_low=self.area_low, flip=self.flip, jitter=self.jitter
        )

    def factor(self, step: int, steps: int, per_epoch: int = 1) -> float:
        """What the base rate is multiplied by at `step` (from 0) of `steps`, `per_epoch` of them an epoch."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / steps))
        if self.schedule == "one-cycle":
            peak = max(1, steps // 4)
            return (step + 1) / peak if step < peak else (steps - step) / (steps - peak)
        return 0.1 ** sum(step >= round(share * steps) for share in self.drops)


@dataclass(frozen=True)
class BaselineRecipe(TrainRecipe):
    """What the public code of trained baselines varies beside. A class of its own: a field more in TrainRecipe would make every run that is
    there another one."""

    lr_end: float = number(0.0, low=0, why="rate that the cosine falls to, at most lr (schedule cosine)")
    cosine_by: str = choice("step", ("step", "epoch"), why="whether the cosine falls at every step or after each epoch")
    warmup_epochs: int = number(0, low=0, why="first epochs, in which the rate rises linearly to the schedule's value")
    warmup_lr: float = number(0.0, low=0, why="rate at which this rise begins")
    grey: float = number(0.0, low=0, high=1, why="probability that an image loses its colours")
    origin: str = "authors"  # whose values: in every row of results. No flag; a run with other values says so

    def __post_init__(self):
        super().__post_init__()
        if max(self.lr_end, self.warmup_lr) > self.lr:
            raise UserError(
                f"lr_end and warmup_lr must be at most lr, {self.lr:g}, got {self.lr_end:g} and {self.warmup_lr:g}"
            )

    @property
    def augmentation(self) -> Augmentation:
        return replace(super().augmentation, grey_probability=self.grey)

    def factor(self, step: int, steps: int, per_epoch: int = 1) -> float:
        """As before, but that the cosine ends at lr_end, and that warm-up in epochs rises to where the schedule stands at its end."""
        warm = self.warmup_epochs * per_epoch
        if step < warm:
            first = self.warmup_lr / self.lr if self.lr else 0.0
            return first + (self.factor(warm, max(steps, warm + 1), per_epoch) - first) * step / warm
        if self.schedule != "cosine" or step < self.warmup_steps or not self.lr:
            return super().factor(step, steps, per_epoch)
        if self.cosine_by == "epoch":
            step, steps = step // per_epoch, math.ceil(steps / per_epoch)
        last = self.lr_end / self.lr
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * step / steps))
