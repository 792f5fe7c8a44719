"""What a scorer is: a frozen dataclass of hyper-parameters that turns arrays into one number an image, larger = more in-distribution.

    fitted = scorer.fit(train, head)      # nothing is remembered in the scorer; fitting again starts from nothing
    scores = fitted(test)                 # float64, one an image, in the order of the images

A new scorer subclasses `Scorer`, says what it needs, and writes `learn`. Checks of the input live here, once for all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from common.errors import UserError
from common.features import Features, Head
from common.recipes import check

Score = Callable[[Features], np.ndarray]
TINY = np.finfo(np.float64).tiny
BLOCK_BYTES = 64 * 2**20  # one float64 working array of a block stays near this size


@dataclass(frozen=True)
class Scorer:
    """Base of all scorers.

    `needs`: what `extract` must provide for images to be scored ("penultimate", "logits", or the name of an extra).
    `train_needs`: the same for ID training images, with "labels" where true labels are used; () if no training image is looked at.
    `family`: "softmax" (a probability), "logit" (unbounded, in the unit of logits), or "other". DFB Eq. 7 differs between the first two and has
    no branch for the last; scores that are functions of the softmax but no probability (klm, gen) are "other".
    `needs_head`: whether the classifier's weight and bias are used.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits",)
    train_needs: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "other"
    needs_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def learn(self, train: Features | None, head: Head | None) -> Score:
        """The score as a function of checked features. `train` and `head` are checked too, and present if declared."""
        raise NotImplementedError

    def fit(self, train: Features | None = None, head: Head | None = None) -> Score:
        """A function from features to float64 scores, one an image. Inputs are never modified.

        Raises UserError if training features or the head are missing, empty, not finite, or of unlike widths; the function returned raises it
        for the images to be scored.
        """
        name = type(self).__name__
        if self.needs_head:
            if head is None:
                raise UserError(f"{name} needs the classifier's weight and bias")
            _finite(head.weight, "head weight"), _finite(head.bias, "head bias")
        if self.train_needs:
            if train is None:
                raise UserError(f"{name} needs features of in-distribution training images: {', '.join(self.train_needs)}")
            check_features(train, self.train_needs, head if self.needs_head else None, "training images")
        learned = self.learn(train, head)
        widths = {need: array(train, need).shape[1:] for need in self.needs if self.train_needs and _has(train, need)}

        def score(test: Features) -> np.ndarray:
            check_features(test, self.needs, head if self.needs_head else None, "images to be scored")
            for need, width in widths.items():
                if array(test, need).shape[1:] != width:
                    raise UserError(f"{need} of images to be scored has width {array(test, need).shape[1:]}, in training it was {width}")
            return np.asarray(learned(test), dtype=np.float64)

        return score


def _has(features: Features, need: str) -> bool:
    return need in ("penultimate", "logits") or need in features.extras


def array(features: Features, need: str) -> np.ndarray:
    """The array a need names. Raises UserError that lists what there is."""
    if need in ("penultimate", "logits", "labels"):
        return getattr(features, need)
    if need not in features.extras:
        raise UserError(f"features lack {need!r}; extras there: {', '.join(features.extras) or 'none'}")
    return features.extras[need]


def _finite(values: np.ndarray, name: str) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds {int((~np.isfinite(values)).sum())} values that are NaN or infinite")


def check_features(features: Features, needs: tuple[str, ...], head: Head | None, whose: str) -> None:
    """Raise UserError unless every needed array is there, has one row an image, is finite, and fits the head."""
    if len(features) == 0:
        raise UserError(f"there are no {whose}")
    for need in needs:
        values = array(features, need)
        if values is None:
            raise UserError(f"{need} of {whose} are missing")
        if len(values) != len(features):
            raise UserError(f"{need} of {whose} has {len(values)} rows, logits have {len(features)}")
        _finite(values, f"{need} of {whose}")
    classes, channels = head.weight.shape if head is not None else (features.logits.shape[1], features.penultimate.shape[1])
    for need, width in (("penultimate", channels), ("logits", classes)):
        if need in needs and array(features, need).shape[1] != width:
            raise UserError(f"{need} of {whose} has width {array(features, need).shape[1]}, the head has {width}")
    if "labels" in needs and not 0 <= features.labels.min() <= features.labels.max() < classes:
        raise UserError(f"labels of {whose} must be in 0..{classes - 1}, got {features.labels.min()}..{features.labels.max()}")


# --- what several scorers share ---


def blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices of consecutive rows whose working arrays stay near BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


def row_wise(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int | None = None) -> Float[np.ndarray, " images"]:
    """function(block of rows as float64) joined over blocks: memory does not grow with the number of images. `width`: widest row inside."""
    widest = max(rows.shape[1], width or 0)
    return np.concatenate([function(rows[part].astype(np.float64)) for part in blocks(len(rows), 8 * widest)])


def logsumexp(logits: Float[np.ndarray, "images classes"]) -> Float[np.ndarray, " images"]:
    """log sum exp over classes, stable for logits of any size."""
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def softmax(logits: Float[np.ndarray, "images classes"]) -> Float[np.ndarray, "images classes"]:
    return np.exp(logits - logsumexp(logits)[:, None])


def mean(rows: np.ndarray) -> Float[np.ndarray, " channels"]:
    """Mean over images, summed in float64."""
    return rows.mean(axis=0, dtype=np.float64)


def class_means(
    rows: Float[np.ndarray, "images channels"], labels: Int[np.ndarray, " images"], classes: int
) -> tuple[Float[np.ndarray, "classes channels"], Int[np.ndarray, " classes"]]:
    """Mean of each class in float64 (zero for a class without images) and the number of images in it."""
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, rows.shape[1]))
    for part in blocks(len(rows), 8 * rows.shape[1]):
        for label in np.unique(labels[part]):
            sums[label] += rows[part][labels[part] == label].sum(axis=0, dtype=np.float64)
    return sums / np.maximum(counts, 1)[:, None], counts


def percentile(values: np.ndarray, q: float) -> float:
    """q-th percentile (0..100) of all entries, linear interpolation, from one partitioned copy (half the cost of a sort, no float64 copy)."""
    position = q / 100 * (values.size - 1)
    low = int(np.floor(position))
    high = min(low + 1, values.size - 1)
    chosen = np.partition(values.ravel(), (low, high))[[low, high]].astype(np.float64)
    return float(chosen[0] + (position - low) * (chosen[1] - chosen[0]))
