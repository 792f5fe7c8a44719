"""What a scorer is: a frozen dataclass of hyper-parameters that turns arrays into one number an image, larger = more in-distribution.

    fitted = scorer.fit(train, head)      # nothing is remembered in the scorer; fitting again starts from nothing
    scores = fitted(test)                 # float64, one an image, in the order of the images

A new scorer subclasses `Scorer`, says what it needs, and writes `learn`. Checks of the input live here, once for all.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from common.cli.errors import UserError
from common.cli.recipes import check, number
from common.scorers.arrays import Features, Head

Score = Callable[[Features], np.ndarray]
BLOCK_BYTES = 64 * 2**20  # one float64 working array of a block stays near this size
LARGEST = 1e100  # squares and products of numbers up to here stay finite in float64


def per_cent(default: float, *, why: str) -> Any:
    """A hyper-parameter in 0..100. One strictly between 0 and 1 is taken for a fraction by mistake, and refused."""
    field = number(default, low=0, high=100, why=why)
    return dataclasses.field(default=default, metadata=field.metadata | {"unit": "per cent"})


def warn_poor_fit(scorer: Any, cause: str) -> None:
    """One line that names the score and why its fit is poor: Python shows it once a run."""
    warnings.warn(f"{type(scorer).__name__}: {cause}", stacklevel=2)


@dataclass(frozen=True)
class Scorer:
    """Base of all scorers.

    `needs`: what `extract` must provide for images to be scored ("penultimate", "logits", or the name of an extra).
    `train_needs`: the same for ID training images, with "labels" where true labels are used; () if no training image is looked at.
    `family`: "softmax" (a probability), "logit" (unbounded, in the unit of logits), or "other". DFB Eq. 7 differs between the first two and has
    no branch for the last. klm and gen are functions of the softmax and count as "softmax", although they are no probabilities.
    `needs_head`: whether the classifier's weight and bias are used.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits",)
    train_needs: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "other"
    needs_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} must be a finite number, got {value}")
            if field.metadata.get("unit") == "per cent" and 0 < value < 1:
                raise UserError(f"{name} must be in 0..100, not a fraction, got {value}")

    def learn(self, train: Features | None, head: Head | None) -> Score:
        """The score as a function of checked features. `train` and `head` are checked too, and present if declared."""
        raise NotImplementedError

    def fit(self, train: Features | None = None, head: Head | None = None) -> Score:
        """A function from features to float64 scores, one an image. Inputs are never modified.

        Raises UserError if training features or the head are missing, empty, not finite, or of unlike widths, or say nothing (no variance within
        classes, all zero); the function returned raises it for the images to be scored, and for a score that is not finite. Training features
        and a head that the score does not use still say which widths to expect. Warns where a fit is poor.
        """
        name, wanted = type(self).__name__, ", ".join(self.train_needs)
        if self.needs_head and head is None:
            raise UserError(f"{name} needs the classifier's weight and bias")
        if wanted and train is None:
            raise UserError(f"{name} needs features of in-distribution training images: {wanted}")
        if self.needs_head:
            _finite(head.weight, "head weight"), _finite(head.bias, "head bias")
        if wanted:
            check_features(train, self.train_needs, head, "training images")
        try:
            learned = self.learn(train, head)
        except np.linalg.LinAlgError as error:
            raise UserError(f"{name}: training features or head cannot be decomposed ({error})") from error
        needs = self.needs
        widths = {} if train is None else {need: _width(train.arrays[need]) for need in needs if need in train.arrays}

        def score(test: Features) -> np.ndarray:
            check_features(test, needs, head, "images to be scored")
            for need, width in widths.items():
                if (got := _width(array(test, need))) != width:
                    raise UserError(f"{need} of images to be scored has width {got}, in training it was {width}")
            scores = np.asarray(learned(test), dtype=np.float64)
            if bad := int((~np.isfinite(scores)).sum()):
                raise UserError(f"{name} gives {bad} of {len(scores)} images a score that is NaN or infinite")
            return scores

        return score


def _width(values: np.ndarray) -> str:
    return " x ".join(map(str, values.shape[1:])) or "1"


def array(features: Features, need: str) -> np.ndarray:
    """The array a need names. Raises UserError if it is not there, with what is."""
    if need not in features.arrays:
        raise UserError(f"features lack {need!r}; there are: {', '.join(features.arrays)}")
    return features.arrays[need]


def _finite(values: np.ndarray, name: str) -> None:
    if bad := sum(int((~np.isfinite(values[part])).sum()) for part in blocks(len(values), values[:1].nbytes)):
        raise UserError(f"{name} holds {bad} values that are NaN or infinite")
    if values.dtype == np.float64 and (largest := max(-values.min(initial=0), values.max(initial=0))) > LARGEST:
        raise UserError(f"{name} holds values as large as {largest:g}; beyond {LARGEST:g} their squares overflow")


def check_features(features: Features, needs: tuple[str, ...], head: Head | None, whose: str) -> None:
    """Raise UserError unless every needed array is there, has one row an image, is finite, and fits the head (if there is one)."""
    if len(features) == 0:
        raise UserError(f"there are no {whose}")
    for need in needs:
        values = array(features, need)
        if len(values) != len(features):
            raise UserError(f"{need} of {whose} has {len(values)} rows, logits have {len(features)}")
        _finite(values, f"{need} of {whose}")
    if head is not None:
        for need, width in zip(("logits", "penultimate"), head.weight.shape, strict=True):
            if need in needs and (got := array(features, need).shape[1]) != width:
                raise UserError(f"{need} of {whose} has width {got}, the head's is {width}")
    if "labels" in needs:
        classes, low, high = features.logits.shape[1], features.labels.min(), features.labels.max()
        if not 0 <= low <= high < classes:
            raise UserError(f"labels of {whose} must be in 0..{classes - 1}, got {low}..{high}")


# --- what several scorers share ---


def check_not_all_zero(scorer: Scorer, train: Features) -> None:
    if not train.penultimate.any():
        raise UserError(f"{type(scorer).__name__}: the features of all training images are zero")


def warn_missing(
    scorer: Scorer, counts: Int[np.ndarray, " classes"], instead: str = "images are not measured against them"
) -> None:
    """Warn of classes without training images; `instead`: what becomes of theirs."""
    if (missing := np.flatnonzero(counts == 0)).size:
        which = ", ".join(map(str, missing[:5])) + (", ..." if missing.size > 5 else "")
        warn_poor_fit(scorer, f"{missing.size} of {len(counts)} classes have no training image ({which}): {instead}")


def blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices of consecutive rows whose working arrays stay near BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


def row_wise(
    function: Callable[..., np.ndarray], *arrays: np.ndarray, width: int = 0
) -> Float[np.ndarray, "images ..."]:
    """function(a block of rows of each array, as float64) joined over blocks: memory does not grow with images. `width`: widest row inside."""
    widest = max(width, *(array.shape[1] for array in arrays))
    parts = blocks(len(arrays[0]), 8 * widest)
    return np.concatenate([function(*(array[part].astype(np.float64) for array in arrays)) for part in parts])


def mean(rows: Any) -> Float[np.ndarray, " channels"]:
    """Mean over images, summed in float64."""
    return rows.mean(axis=0, dtype=np.float64)


def class_sums(
    rows: Float[np.ndarray, "images channels"], labels: Int[np.ndarray, " images"], classes: int
) -> Float[np.ndarray, "classes channels"]:
    """Sum of the rows of each class in float64, as one sparse product."""
    one_hot = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(classes, len(labels)))
    return np.asarray(one_hot @ rows.astype(np.float64))


def class_means(
    rows: Any, labels: Int[np.ndarray, " images"], classes: int, chosen: Bool[np.ndarray, " images"] | None = None
) -> tuple[Float[np.ndarray, "classes channels"], Int[np.ndarray, " classes"]]:
    """Mean of each class in float64 (zero for a class without images) and the number of images in it; of the `chosen` rows only, if given."""
    sums, counts = np.zeros((classes, rows.shape[1])), np.zeros(classes, dtype=np.int64)
    for part in blocks(len(rows), 8 * rows.shape[1]):
        kept = slice(None) if chosen is None else chosen[part]
        sums += class_sums(rows[part][kept], labels[part][kept], classes)
        counts += np.bincount(labels[part][kept], minlength=classes)
    return sums / np.maximum(counts, 1)[:, None], counts
