"""How well scores separate in-distribution (ID) images from the rest. Larger score = more ID; ID is the positive class unless a name says otherwise.

All values are fractions. FPR95 has no interpolation and no randomness: with k = ceil(0.95 n) in exact arithmetic the threshold is the
k-th largest ID score, and what ties with it is accepted on both sides. Public code uses other rules under the same name; those are the
named VARIANTS, so that a published number can be matched. A table that uses one must print its name.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from common.cli.errors import UserError, unknown

Metric = Callable[[np.ndarray, np.ndarray], float]


def _ascending(scores: np.ndarray, name: str) -> np.ndarray:
    """A sorted float64 copy. Raises UserError if there is nothing to sort, a NaN, or more than one axis."""
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise UserError(f"{name} scores must have one axis, got shape {scores.shape}")
    if len(scores) == 0:
        raise UserError(f"{name} scores are empty")
    scores = np.sort(scores.astype(np.float64))
    if np.isnan(scores[-1]):  # sorting puts NaN last
        raise UserError(f"{name} scores hold {np.isnan(scores).sum()} NaN out of {len(scores)}")
    return scores


def _exact(tpr: float) -> Fraction:
    """The share as it is written: 0.95 is 19/20, although the float is not."""
    if not 0 < tpr <= 1:
        raise UserError(f"tpr must be in (0, 1], got {tpr}")
    return Fraction(repr(float(tpr)))


def _kth_largest(ascending: np.ndarray, tpr: float) -> float:
    return float(ascending[-math.ceil(_exact(tpr) * len(ascending))])


def _share_at_least(ascending: np.ndarray, threshold: float) -> float:
    return float(len(ascending) - np.searchsorted(ascending, threshold, side="left")) / len(ascending)


def threshold_at_tpr(id_scores: np.ndarray, tpr: float = 0.95) -> float:
    """The largest threshold t at which at least a share `tpr` of the ID images has score >= t. Accept an image as ID iff score >= t."""
    return _kth_largest(_ascending(id_scores, "ID"), tpr)


# --- FPR at a given TPR: one small rule a name; each gets both score vectors ascending ---


def _default(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    return _share_at_least(ood, _kth_largest(id_, tpr))


def _closest(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """The point whose recall is nearest to tpr, even if below it; among equals the one with the larger recall (Hendrycks; DFB's code)."""
    starts = np.searchsorted(id_, np.unique(id_), side="left")  # how many ID scores lie below each distinct one
    recall = (len(id_) - starts) / len(id_)
    # In floats, as the original has it: equal distances are decided by rounding
    j = int(np.argmin(np.abs(recall - tpr)))
    if j == 0:
        return _share_at_least(ood, id_[0])
    # Of the thresholds with this recall the lowest counts: just above the next lower ID score.
    return float(len(ood) - np.searchsorted(ood, id_[starts[j] - 1], side="right")) / len(ood)


def _strict_gt(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """OOD strictly above sorted(ID)[round((1 - tpr) n)], banker's rounding: ties with the threshold count as rejected (deeplearning-wisc)."""
    index = min(round((1 - _exact(tpr)) * len(id_)), len(id_) - 1)
    return float(len(ood) - np.searchsorted(ood, id_[index], side="right")) / len(ood)


def _floor(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """k rounded down: recall may fall below tpr (ViM, GEN)."""
    k = max(math.floor(_exact(tpr) * len(id_)), 1)
    return _share_at_least(ood, id_[-k])


def _ood_positive(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """Another quantity: the share of ID rejected when a share `tpr` of OOD is detected (OpenOOD, pytorch-ood)."""
    return _default(-ood[::-1], -id_[::-1], tpr)


def _openood(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """`ood-positive` as OpenOOD computes it: collinear points of the curve are dropped first, which overshoots where scores tie."""
    from sklearn.metrics import roc_curve

    truth = np.r_[np.zeros(len(id_)), np.ones(len(ood))]
    fpr, recall, _ = roc_curve(truth, -np.r_[id_, ood])
    return float(fpr[np.argmax(recall >= tpr)])


def _interp(id_: np.ndarray, ood: np.ndarray, tpr: float) -> float:
    """Linear interpolation of the ROC curve: a value that no threshold attains."""
    thresholds = np.unique(np.r_[id_, ood])[::-1]
    recall = 1 - np.searchsorted(id_, thresholds, side="left") / len(id_)
    fpr = 1 - np.searchsorted(ood, thresholds, side="left") / len(ood)
    return float(np.interp(tpr, np.r_[0, recall], np.r_[0, fpr]))


VARIANTS: dict[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    "default": _default,
    "closest": _closest,
    "strict-gt": _strict_gt,
    "floor": _floor,
    "interp": _interp,
    "ood-positive": _ood_positive,
    "openood": _openood,
}


def fpr_at_tpr(id_scores: np.ndarray, ood_scores: np.ndarray, tpr: float = 0.95, variant: str = "default") -> float:
    """Share of OOD images accepted at the threshold that accepts a share `tpr` of the ID images: 0 is best, 1 worst.

    `variant` names another rule found in public code (see VARIANTS). Raises UserError for bad scores, tpr outside (0, 1], or an unknown variant.
    """
    if variant not in VARIANTS:
        raise unknown("FPR variant", variant, VARIANTS)
    _exact(tpr)
    return VARIANTS[variant](_ascending(id_scores, "ID"), _ascending(ood_scores, "OOD"), tpr)


# --- areas ---


def _auroc(id_: np.ndarray, below: np.ndarray, not_above: np.ndarray, n_ood: int) -> float:
    # Integers up to 2 n m: exact, so that the order of summation does not matter.
    return float(int(below.sum()) + int(not_above.sum())) / (2 * len(id_) * n_ood)


def _average_precision(own_below: np.ndarray, other_below: np.ndarray, n_other: int) -> float:
    """Mean over the positives of the precision at their own score (positives = the larger ones), ties counted as accepted."""
    own = len(own_below) - own_below
    return float(np.mean(own / (own + (n_other - other_below))))


def auroc(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    """P(ID > OOD) + P(ID = OOD) / 2 (Mann-Whitney): 1 is perfect, 0.5 chance. Swapping the sides gives 1 minus it."""
    id_, ood = _ascending(id_scores, "ID"), _ascending(ood_scores, "OOD")
    return _auroc(id_, np.searchsorted(ood, id_, side="left"), np.searchsorted(ood, id_, side="right"), len(ood))


def aupr(id_scores: np.ndarray, ood_scores: np.ndarray, positive: str = "in") -> float:
    """Average precision, step-wise as scikit-learn has it. positive="in": ID is looked for (AUPR of both papers); "out": OOD, scores negated.

    Depends on how many images each side has: keep both counts beside it.
    """
    if positive not in ("in", "out"):
        raise UserError(f"positive must be in or out, got {positive!r}")
    return summary(id_scores, ood_scores)[f"aupr_{positive}"]


def summary(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    """fpr95, auroc, aupr_in and aupr_out, all from one sort of each side. Fractions. Raises UserError as the single metrics do."""
    id_, ood = _ascending(id_scores, "ID"), _ascending(ood_scores, "OOD")
    below, not_above = (np.searchsorted(ood, id_, side=side) for side in ("left", "right"))
    # Seen from the other side (scores negated), "below" is "above".
    above, own_above = (len(side) - np.searchsorted(side, ood, side="right") for side in (id_, ood))
    return {
        "fpr95": _default(id_, ood, 0.95),
        "auroc": _auroc(id_, below, not_above, len(ood)),
        "aupr_in": _average_precision(np.searchsorted(id_, id_, side="left"), below, len(ood)),
        "aupr_out": _average_precision(own_above, above, len(id_)),
    }


# --- confidence ---


class Difference(NamedTuple):
    """Metric of detector A minus that of B, its 95 % interval, and a two-sided p-value for "no difference"."""

    value: float
    low: float
    high: float
    p: float


def _redraws(repeats: int, seed: int, *sides: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Row numbers of each side, as many as it has, drawn with replacement; `repeats` times."""
    if repeats < 1:
        raise UserError(f"repeats must be >= 1, got {repeats}")
    draw = np.random.default_rng(seed)
    return ([draw.integers(len(side), size=len(side)) for side in sides] for _ in range(repeats))


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def check_repeats(repeats: int, flag: str = "bootstrap") -> None:
    """Raise UserError for a number of redraws that says nothing of a 95 % interval; 0 asks for none."""
    if repeats and repeats < 100:
        raise UserError(f"{flag} must be 0 or >= 100, got {repeats}")


def bootstrap(
    id_scores: np.ndarray, ood_scores: np.ndarray, metric: Metric = auroc, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of metric(id, ood) when the images of each side are drawn again with replacement.

    It speaks of the choice of test images only, not of training seeds.
    """
    id_, ood = _ascending(id_scores, "ID"), _ascending(ood_scores, "OOD")
    return _interval(np.array([metric(id_[i], ood[o]) for i, o in _redraws(repeats, seed, id_, ood)]))


def paired_difference(
    a: tuple[np.ndarray, np.ndarray],
    b: tuple[np.ndarray, np.ndarray],
    metric: Metric = auroc,
    repeats: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare detectors A and B, each given as (id_scores, ood_scores) on the same images in the same order.

    Both see the same redrawn images, so that what is hard for both cancels. p is the share of redraws on the far side of zero, doubled.
    """
    for side, x, y in zip(("ID", "OOD"), a, b, strict=True):
        _ascending(x, f"{side} (A)"), _ascending(y, f"{side} (B)")
        if len(x) != len(y):
            raise UserError(f"{side} scores of A and B must be of the same images, got {len(x)} and {len(y)}")
    drawn = _redraws(repeats, seed, *a)
    differences = np.array([metric(a[0][i], a[1][o]) - metric(b[0][i], b[1][o]) for i, o in drawn])
    tail = 1 + min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return Difference(metric(*a) - metric(*b), *_interval(differences), min(1.0, 2 * tail / (repeats + 1)))


CONVENTION = "ID positive; FPR95 at ceil(0.95 n_id) accepted, ties accepted; AUPR is average precision"
INTERVALS = ("fpr95_low", "fpr95_high", "auroc_low", "auroc_high")  # with --bootstrap only
