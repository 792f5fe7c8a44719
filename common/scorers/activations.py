"""Energy of logits computed anew from shaped activations or thinned weights: ReAct, DICE, LINe, ASH, SCALE.

The head is linear, so that each costs one matrix product on the stored penultimate features. Accuracy is that of the unmodified network.
Percentiles are in 0..100, with linear interpolation, and masks keep what is strictly above them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import (
    Score,
    Scorer,
    blocks,
    class_means,
    mean,
    per_cent,
    row_wise,
    warn_missing,
    warn_poor_fit,
)

COPY_ENTRIES = 2**28  # a percentile of more entries than this is read digit by digit instead of from a partitioned copy
LARGEST_EXPONENT = 300.0  # s1 / s2 beyond it (next to nothing kept) would overflow; the order among such images is lost


def percentile(values: np.ndarray, q: float, copy_entries: int = COPY_ENTRIES) -> float:
    """q-th percentile of all entries of an array of floats; exact also where a copy would not fit into memory."""
    position = q / 100 * (values.size - 1)
    low = int(np.floor(position))
    high = min(low + 1, values.size - 1)
    if values.size <= copy_entries:
        chosen = np.partition(values.ravel(), (low, high))
        a, b = float(chosen[low]), float(chosen[high])
    else:
        a, b = _nth(values, low), _nth(values, high)
    return a + (position - low) * (b - a)


def _nth(values: np.ndarray, rank: int) -> float:
    """The rank-th smallest entry (from 0), by its bits: 16 at a time from the top, one pass over blocks each, no copy."""
    bits = 8 * values.dtype.itemsize
    unsigned = np.dtype(f"u{values.dtype.itemsize}").type
    sign, prefix = 1 << (bits - 1), 0
    for shift in range(bits - 16, -1, -16):
        counts = np.zeros(2**16, np.int64)
        for part in blocks(len(values), values[:1].nbytes):
            raw = np.ascontiguousarray(values[part]).ravel().view(unsigned)
            keys = np.where(raw >> unsigned(bits - 1), ~raw, raw | unsigned(sign))  # ordered as the floats are
            if shift + 16 < bits:
                keys = keys[keys >> unsigned(shift + 16) == prefix]
            counts += np.bincount(((keys >> unsigned(shift)) & unsigned(0xFFFF)).astype(np.int64), minlength=2**16)
        upto = counts.cumsum()
        digit = int(np.searchsorted(upto, rank, side="right"))
        rank -= int(upto[digit] - counts[digit])
        prefix = prefix << 16 | digit
    raw = prefix ^ sign if prefix & sign else prefix ^ (2 * sign - 1)
    return float(np.array([raw], unsigned).view(values.dtype)[0])


def head_energy(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """logsumexp(W h + b) of each row."""
    return logsumexp(features @ weight.T.astype(np.float64) + bias, axis=1)


class _OfShaped(Scorer):
    """An energy of the head on penultimate features that were changed, or with weights that were."""

    needs, family, needs_head = ("penultimate",), "logit", True


def _score(shaped: Callable[[np.ndarray], np.ndarray], weight: np.ndarray, bias: np.ndarray) -> Score:
    return lambda test: row_wise(lambda h: head_energy(shaped(h), weight, bias), test.penultimate, width=len(bias))


@dataclass(frozen=True)
class ReAct(_OfShaped):
    """logsumexp(W min(h, c) + b) with c the percentile over all entries (images x channels) of the training features (Sun et al. 2021)."""

    percentile: float = per_cent(90.0, why="in 0..100, of all training activations; react compute_threshold.py")
    c: float | None = number(None, low=1e-12, why="fixed threshold in the activations' unit, instead of the percentile")

    @property
    def train_needs(self) -> tuple[str, ...]:
        return ("penultimate",) if self.c is None else ()

    def threshold(self, train: Features | None) -> float:
        """c. Raises UserError where all images would be clipped to it."""
        c = percentile(train.penultimate, self.percentile) if self.c is None else self.c
        if self.c is None and c <= train.penultimate.min():
            what = f"percentile {self.percentile:g} of the training activations is {c:g}, their smallest value"
            raise UserError(f"{type(self).__name__}: {what}: clipped there all images would be alike")
        return c

    def clip(self, train: Features | None) -> Callable[[np.ndarray], np.ndarray]:
        c = self.threshold(train)
        return lambda h: np.minimum(h, c)

    def learn(self, train: Features | None, head: Head) -> Score:
        return _score(self.clip(train), head.weight, head.bias)


@dataclass(frozen=True)
class DICE(_OfShaped):
    """logsumexp((W * M) h + b), M = the weights that contribute most to the mean training image, over all classes (Sun & Li 2022)."""

    train_needs = ("penultimate",)
    p: float = per_cent(90.0, why="per cent of weights dropped; dice demo-cifar.sh")

    def thinned(self, train: Features, head: Head) -> np.ndarray:
        """W with every entry zeroed whose signed contribution V = W * mean(h) is not above the p-th percentile of all of V."""
        contribution = head.weight * mean(train.penultimate)
        kept = contribution > percentile(contribution, self.p)
        if not kept.any():
            what = f"no weight contributes more than percentile {self.p:g} of all"
            raise UserError(f"{type(self).__name__}: {what}, as with training features that are all zero")
        return np.where(kept, head.weight, 0)

    def learn(self, train: Features, head: Head) -> Score:
        return _score(lambda h: h, self.thinned(train, head), head.bias)


@dataclass(frozen=True)
class DICEReAct(ReAct, DICE):
    """logsumexp((W * M) min(h, c) + b): DICE's weights, from the unclipped training mean, on ReAct's features. No value is published for CIFAR."""

    train_needs = ("penultimate",)

    def learn(self, train: Features, head: Head) -> Score:
        return _score(self.clip(train), self.thinned(train, head), head.bias)


@dataclass(frozen=True)
class LINe(_OfShaped):
    """Clipped features, and per predicted class only the activations and weights that matter to it (Ahn et al. 2023).

    S_c = mean over class c of h * df_c/dh, which for a linear head is mu_c * W_c. c = argmax(W min(h, delta) + b); activations stay where
    S_c is above its p_a-th percentile, weights where |S_c| * W is above its p_w-th; score = logsumexp((W * m_c)(h' * a_c) + b).
    """

    train_needs = ("penultimate", "labels")
    p_w: float = per_cent(90.0, why="per cent of weights dropped; LINe demo-cifar.sh")
    p_a: float = per_cent(90.0, why="per cent of activations dropped; LINe demo-cifar.sh (CIFAR-10)")
    delta: float = number(1.0, low=1e-12, why="clip, in units of the activations; LINe demo-cifar.sh")

    def contributions(self, train: Features, head: Head) -> np.ndarray:
        """S, classes x channels. A class without training images takes the mean of all images for its own."""
        means, counts = class_means(train.penultimate, train.labels, len(head.bias))
        warn_missing(self, counts, "the mean of all images takes the place of theirs")
        return np.where(counts[:, None] > 0, means, mean(train.penultimate)) * head.weight

    def learn(self, train: Features, head: Head) -> Score:
        weight, bias = head.weight.astype(np.float64), head.bias
        contribution = self.contributions(train, head)
        thresholds, silent = [], 0  # K numbers instead of K x K x C masks
        for s in contribution:
            V = np.abs(s) * weight
            thresholds.append(percentile(V, self.p_w))
            silent += not (V.max(axis=0)[s > percentile(s, self.p_a)] > thresholds[-1]).any()
        if silent == len(bias):
            raise UserError(f"LINe: p_w {self.p_w:g} and p_a {self.p_a:g} leave no class an activation with a weight")
        if silent:
            warn_poor_fit(
                self, f"{silent} of {len(bias)} classes keep no activation with a weight: their images score alike"
            )

        def score(h: np.ndarray) -> np.ndarray:
            h = np.minimum(h, self.delta)
            predicted = (h @ weight.T + bias).argmax(axis=1)
            result = np.empty(len(h))
            for c in np.unique(predicted):
                s, rows = contribution[c], predicted == c
                thinned = np.where(np.abs(s) * weight > thresholds[c], weight, 0)
                result[rows] = head_energy(h[rows] * (s > percentile(s, self.p_a)), thinned, bias)
            return result

        return lambda test: row_wise(score, test.penultimate, width=len(bias))


def _kept(h: np.ndarray, p: float) -> tuple[np.ndarray, int]:
    """Where each row's largest entries are, n - round(n p / 100) of them; among equals the first ones."""
    n_kept = h.shape[1] - round(h.shape[1] * p / 100)
    if n_kept < 1:
        raise UserError(f"percentile {p:g} keeps none of {h.shape[1]} activations")
    mask = np.zeros(h.shape, bool)
    np.put_along_axis(mask, np.argsort(-h, axis=1, kind="stable")[:, :n_kept], True, axis=1)
    return mask, n_kept


def _expansion(h: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """exp(s1 / s2), s1 the row's sum and s2 that of what is kept."""
    s1, s2 = h.sum(axis=1), np.where(kept, h, 0).sum(axis=1)
    # s2 = 0 only for a row of zeros, which no factor changes
    ratio = np.divide(s1, s2, out=np.ones_like(s1), where=s2 != 0)
    return np.exp(np.minimum(ratio, LARGEST_EXPONENT))[:, None]


@dataclass(frozen=True)
class ASH(_OfShaped):
    """Energy after pruning each image's smallest activations (Djurisic et al. 2023). Variants: p only prunes; b spreads the row's sum
    evenly over what is kept; s multiplies what is kept by exp(sum before / sum after)."""

    variant: str = choice("s", ("s", "b", "p"), why="what becomes of the kept activations")
    percentile: float = per_cent(90.0, why="per cent of each image's activations pruned; ash config, ResNet-50")

    def shaped(self, h: np.ndarray) -> np.ndarray:
        """A new array; h stays as it is."""
        kept, n_kept = _kept(h, self.percentile)
        if self.variant == "b":
            return np.where(kept, h.sum(axis=1, keepdims=True) / n_kept, 0)
        pruned = np.where(kept, h, 0)
        return pruned * _expansion(h, kept) if self.variant == "s" else pruned

    def learn(self, train: Features | None, head: Head) -> Score:
        # One that keeps nothing is refused before any image
        _kept(np.zeros((1, head.weight.shape[1])), self.percentile)
        return _score(self.shaped, head.weight, head.bias)


@dataclass(frozen=True)
class SCALE(_OfShaped):
    """logsumexp(W h exp(s1 / s2) + b), s1 and s2 as in ASH-S, but nothing is pruned (Xu et al. 2024)."""

    percentile: float = per_cent(85.0, why="per cent left out of s2; SCALE scale.yml, ImageNet")

    def learn(self, train: Features | None, head: Head) -> Score:
        _kept(np.zeros((1, head.weight.shape[1])), self.percentile)
        return _score(lambda h: h * _expansion(h, _kept(h, self.percentile)[0]), head.weight, head.bias)
