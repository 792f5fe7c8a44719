"""Scores that look at feature maps inside the network: FeatureNorm and MaSF. The maps stay there; a few numbers an image come out as extras.

Of the output z (images x channels x rows x cols) of every residual block, in order and without the stem, `extract` makes
"block_norms", images x blocks: mean over channels of the Frobenius norm of relu(z);
"jigsaw_block_norms": the same of training images whose 3 x 3 tiles are shuffled anew for each image. What the tiles do not cover has the mean
colour, which the network's normalisation turns into the zero of the authors' code;
"channel_maxima": each channel's maximum over locations, block by block, then the penultimate features as one more layer. Each row begins with the
number of layers and their widths, so that any rows can be read alone.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, array, blocks, warn_poor_fit

FEWEST = 8  # a class with fewer training images is judged by all of them together


def norm_ratio(norms: np.ndarray, jigsaw_norms: np.ndarray) -> np.ndarray:
    """Mean over images of norm / norm of the jigsawed image, a number a block. Images whose jigsaw leaves a block silent say nothing of it."""
    heard = jigsaw_norms > 0
    ratios = np.divide(norms, jigsaw_norms, out=np.zeros(norms.shape), where=heard)
    return ratios.sum(axis=0) / np.maximum(heard.sum(axis=0), 1)


@dataclass(frozen=True)
class FeatureNorm(Scorer):
    """Mean over channels of the Frobenius norm of relu(z_b), block b by NormRatio on jigsawed training images (Yu et al. 2023)."""

    needs = ("block_norms",)
    block: int | None = number(None, low=0, why="which block, from 0; not set: the one of largest NormRatio")

    @property
    def train_needs(self) -> tuple[str, ...]:
        return ("block_norms", "jigsaw_block_norms") if self.block is None else ()

    def learn(self, train: Features | None, head: Head | None) -> Score:
        block = self.block
        if block is None:
            ratios = norm_ratio(array(train, "block_norms"), array(train, "jigsaw_block_norms"))
            if not ratios.any():
                raise UserError("FeatureNorm: every block is silent on the training images, or on all of their jigsaws")
            block = int(ratios.argmax())

        def score(test: Features) -> np.ndarray:
            norms = array(test, "block_norms")
            if block >= norms.shape[1]:
                raise UserError(f"FeatureNorm: block must be below the network's {norms.shape[1]} blocks, got {block}")
            return norms[:, block]

        return score


class Null(NamedTuple):
    """What MaSF knows of one class: each array ascending along its first axis."""

    maxima: np.ndarray  # images x channels
    simes: np.ndarray  # images x layers
    products: np.ndarray  # images: of their layers' p-values, whole numbers over `denominator`
    denominator: int


FEW_PAIRS = 2048


def _counts(values: np.ndarray, ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each column: how many reference values are <= and >= each value."""
    if len(values) * len(ascending) <= FEW_PAIRS:  # comparing all pairs costs less than a search a column
        pairs = values[:, None, :], ascending[None, :, :]
        return (pairs[1] <= pairs[0]).sum(axis=1), (pairs[1] >= pairs[0]).sum(axis=1)
    at_most, less = np.empty(values.shape, dtype=np.int64), np.empty(values.shape, dtype=np.int64)
    for c, (column, reference) in enumerate(
        zip(np.ascontiguousarray(values.T), np.ascontiguousarray(ascending.T), strict=True)
    ):
        at_most[:, c] = found = np.searchsorted(reference, column, side="right")
        less[:, c] = found
        # The others have as many below as at most
        tied = np.flatnonzero((found > 0) & (reference[np.maximum(found - 1, 0)] == column))
        less[tied, c] = np.searchsorted(reference, column[tied], side="left")
    return at_most, len(ascending) - less


def _ranks(counts: np.ndarray, n: int, own: bool) -> tuple[np.ndarray, int]:
    """A p-value as a fraction, (1 + count) over (n + 1) among n others; `own`: the value itself is one of the n, both ones are already there."""
    return (counts, n) if own else (1 + counts, n + 1)


def _simes(maxima: np.ndarray, ascending: np.ndarray, widths: np.ndarray, own: bool) -> np.ndarray:
    """Levels 1 and 2: two-sided p-value a channel, then Simes' min_j q_(j) / j a layer, without its constant C. Images x layers."""
    parts = [_simes_of_block(maxima[part], ascending, widths, own) for part in blocks(len(maxima), 8 * maxima.shape[1])]
    return np.concatenate(parts) if parts else np.empty((0, len(widths)))


def _simes_of_block(maxima: np.ndarray, ascending: np.ndarray, widths: np.ndarray, own: bool) -> np.ndarray:
    """One division of whole numbers a channel: rounded once, values tie exactly where the fractions do."""
    at_most, at_least = _counts(maxima, ascending)
    ranks, n = _ranks(np.minimum(at_most, at_least), len(ascending), own)
    layers = np.split(np.minimum(n, 2 * ranks), np.cumsum(widths)[:-1], axis=1)
    return np.stack([(np.sort(q, axis=1) / (n * np.arange(1, q.shape[1] + 1))).min(axis=1) for q in layers], axis=1)


def _fisher(simes: np.ndarray, ascending: np.ndarray, own: bool) -> tuple[np.ndarray, int]:
    """Level 3: p-value a layer (small Simes = odd), and their product, whose -2 log is Fisher's statistic: as whole numbers, over one denominator."""
    ranks, n = _ranks(_counts(simes, ascending)[0], len(ascending), own)
    return np.prod(ranks.astype(object), axis=1), n ** simes.shape[1]


def _split(extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widths of the layers, and images x channels."""
    layers = int(extra[0, 0])
    widths = extra[0, 1 : 1 + layers].astype(int)
    values = extra[:, 1 + layers :]
    if layers < 1 or widths.sum() != values.shape[1] or (extra[:, : 1 + layers] != extra[0, : 1 + layers]).any():
        what = "each row must begin with the number of layers and their widths"
        raise UserError(f"channel_maxima: {what}, got {extra[0, :4]}...")
    return widths, values


def _varies(rows: np.ndarray) -> bool:
    return bool((rows != rows[:1]).any())


@dataclass(frozen=True)
class MaSF(Scorer):
    """Max over locations, Simes over channels, Fisher over layers: a p-value for "is in-distribution" (Haroush et al. 2022).

    p-values nearly all tie, so the default output is -F, F Fisher's statistic, which orders alike; `output="p"` gives the p-value. Written
    from the paper's description; no official code is known, and how it treats classes and calibration folds is our reading.
    """

    classes: str = choice(
        "predicted", ("predicted", "max", "none"), why="null of the predicted class, the best, or all"
    )
    folds: str = choice("two", ("two", "one"), why="two: layers calibrated on other images; one: left out one by one")
    output: str = choice("fisher", ("fisher", "p"), why="-F, or the p-value")
    needs = ("channel_maxima", "logits")

    @property
    def train_needs(self) -> tuple[str, ...]:
        return ("channel_maxima",) if self.classes == "none" else ("channel_maxima", "logits", "labels")

    def _null(self, maxima: np.ndarray, widths: np.ndarray) -> Null:
        first, second = (maxima[::2], maxima[1::2]) if self.folds == "two" else (maxima, maxima)
        first = np.sort(first, axis=0)
        raw = _simes(second, first, widths, own=self.folds == "one")
        simes = np.sort(raw, axis=0)
        products, denominator = _fisher(raw, simes, own=True)
        return Null(first, simes, np.sort(products), denominator)

    def _judge(self, maxima: np.ndarray, widths: np.ndarray, null: Null) -> np.ndarray:
        products, denominator = _fisher(_simes(maxima, null.maxima, widths, own=False), null.simes, own=False)
        if self.output == "fisher":
            return np.array([2 * (math.log(product) - math.log(denominator)) for product in products])
        # As odd as this image or odder: product / denominator of the null at most its own, in whole numbers
        odder = np.searchsorted(null.products * denominator, products * null.denominator, side="right")
        return (1 + odder) / (len(null.products) + 1)

    def learn(self, train: Features, head: Head | None) -> Score:
        widths, maxima = _split(array(train, "channel_maxima"))
        if len(maxima) < 2:
            raise UserError("MaSF needs at least two training images, got 1")
        groups = [] if self.classes == "none" else [maxima[train.labels == k] for k in range(train.logits.shape[1])]
        if not _varies(maxima):
            raise UserError(
                "MaSF: the channel maxima of all training images are alike, so that there is nothing to rank by"
            )
        pooled = self._null(maxima, widths)
        enough = [len(group) >= FEWEST and _varies(group) for group in groups]
        if not all(enough):
            what = (
                f"{enough.count(False)} of {len(groups)} classes have fewer than {FEWEST} training images, or all alike"
            )
            warn_poor_fit(self, f"{what}: all images together judge theirs")
        nulls = [self._null(group, widths) if fine else pooled for group, fine in zip(groups, enough, strict=True)]

        def score(test: Features) -> np.ndarray:
            values = _split(array(test, "channel_maxima"))[1]
            if self.classes == "none":
                return self._judge(values, widths, pooled)
            if self.classes == "max":
                return np.max([self._judge(values, widths, null) for null in nulls], axis=0)
            predicted, result = test.logits.argmax(axis=1), np.empty(len(test))
            for k in np.unique(predicted):
                result[predicted == k] = self._judge(values[predicted == k], widths, nulls[k])
            return result

        return score
