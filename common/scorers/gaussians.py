"""Scores by Gaussians in feature space: Mahalanobis and relative Mahalanobis, on features as they are or of unit length.

Covariances are summed and decomposed in float64; directions whose variance is below CUTOFF of the largest count as empty and are left out,
so that units which are dead in training change nothing and the unit of the features does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, blocks, class_means, mean, row_wise, warn_missing, warn_poor_fit
from common.scorers.neighbours import unit

CUTOFF = 1e-12  # of the largest variance; rounding of float32 features stands near 1e-14
NO_VARIANCE = 1e-24  # of the mean square: what float64 means leave of equal rows stands below


def scatter(rows: Any, centres: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
    """(1/N) sum (h - m)(h - m)^T in float64, m = `centres` or, with `which`, each row's own centre. Channels x channels."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for part in blocks(len(rows), 8 * rows.shape[1]):
        centred = rows[part].astype(np.float64) - (centres if which is None else centres[which[part]])
        total += centred.T @ centred
    return total / len(rows)


def whitening(covariance: np.ndarray) -> np.ndarray:
    """T with |T^T x|^2 = x^T pinv(covariance) x. Channels x rank."""
    values, vectors = np.linalg.eigh(covariance)
    full = values > CUTOFF * max(values[-1], 0)
    return vectors[:, full] / np.sqrt(values[full])


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Points x centres, as one product: no points x centres x channels array."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.maximum(squares, 0)


class _Units:
    """The rows of an array, each divided by its length, made a block at a time."""

    def __init__(self, rows: np.ndarray):
        self.rows, self.shape = rows, rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: Any) -> np.ndarray:
        return unit(self.rows[part].astype(np.float64))

    def mean(self, **_: Any) -> np.ndarray:
        parts = blocks(len(self), 8 * self.shape[1])
        return np.sum([self[part].sum(axis=0) for part in parts], axis=0) / len(self)


def _class_gaussians(scorer: Scorer, rows: Any, train: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of `rows`, one a training image: global mean, whitening of the tied covariance about the means of the true classes, and those means, centred and whitened.

    Raises UserError if no class varies. Warns where fewer images than channels are left after the means, and of classes without images.
    """
    means, counts = class_means(rows, train.labels, train.logits.shape[1])
    within, centre = scatter(rows, means, train.labels), mean(rows)
    total = np.diag(within) + counts @ means**2 / len(train)  # mean square of each channel
    if np.trace(within) <= NO_VARIANCE * total.sum():
        what = "training features do not vary within any class (as with one image a class)"
        raise UserError(f"{type(scorer).__name__}: {what}, so that there is no covariance")
    warn_missing(scorer, counts)
    free, channels = len(train) - int((counts > 0).sum()), int((total > 0).sum())
    if free < channels:
        what = f"{len(train)} training images in {len(train) - free} classes are too few for {channels} channels"
        warn_poor_fit(scorer, f"{what}: directions in which they do not vary count for nothing")
    transform = whitening(within)
    return centre, transform, (means[counts > 0] - centre) @ transform


NORM = choice("none", ("none", "l2"), why="of each feature vector: as it is, or divided by its length (Mahalanobis++)")


@dataclass(frozen=True)
class Mahalanobis(Scorer):
    """-min_c (h - mu_c)^T P (h - mu_c), P the pseudo-inverse of the tied covariance (Lee et al. 2018; penultimate features, no perturbation).

    With norm "l2" h is divided by its length first, in training too: Mahalanobis++ (Mueller & Hein 2025).
    """

    needs, train_needs = ("penultimate",), ("penultimate", "logits", "labels")
    norm: str = NORM

    def learn(self, train: Features, head: Head | None) -> Score:
        given = unit if self.norm == "l2" else lambda h: h
        score = self.of_rows(_Units(train.penultimate) if self.norm == "l2" else train.penultimate, train)
        return lambda test: row_wise(lambda h: score(given(h)), test.penultimate, width=train.logits.shape[1])

    def of_rows(self, rows: Any, train: Features) -> Callable[[np.ndarray], np.ndarray]:
        """The score of a block of features, normed as `rows`, which are those of the training images."""
        centre, transform, means = _class_gaussians(self, rows, train)
        return lambda h: -_squared_distances((h - centre) @ transform, means).min(axis=1)


@dataclass(frozen=True)
class RelativeMahalanobis(Mahalanobis):
    """-min_c (d_c^2 - d_0^2), d_0 to the one Gaussian of all training images; both covariances divided by N (Ren et al. 2021)."""

    def of_rows(self, rows: Any, train: Features) -> Callable[[np.ndarray], np.ndarray]:
        centre, transform, means = _class_gaussians(self, rows, train)
        if len(means) == 1:
            warn_poor_fit(self, "training images are of one class, whose Gaussian is that of all: every score is 0")
        background = whitening(scatter(rows, centre))

        def score(h: np.ndarray) -> np.ndarray:
            h = h - centre
            return ((h @ background) ** 2).sum(axis=1) - _squared_distances(h @ transform, means).min(axis=1)

        return score


@dataclass(frozen=True)
class ClusterMahalanobis(Scorer):
    """max_c -(z - m_c)^T pinv(S_c) (z - m_c), z = h of unit length, each channel standardised over the training images; clusters by k-means, each
    with its own mean and covariance; labels are not looked at (SSD, Sehwag et al. 2021, Eq. 3; one cluster in its public code)."""

    needs, train_needs = ("penultimate",), ("penultimate",)
    clusters: int = number(1, low=1, high=1000, why="of k-means over the training images; SSD's public code: 1")

    def learn(self, train: Features, head: Head | None) -> Score:
        rows = _Units(train.penultimate)
        centre = rows.mean()
        variance = np.diag(scatter(rows, centre))
        if variance.sum() <= NO_VARIANCE:  # of rows of length 1
            what = "training features do not vary in direction, so that there is no covariance"
            raise UserError(f"{type(self).__name__}: {what}")
        scale = np.where(variance > CUTOFF * variance.max(), np.sqrt(variance), np.inf)
        gaussians = [self.gaussian(part, centre, scale) for part in self.split(train.penultimate, centre, scale)]

        def score(h: np.ndarray) -> np.ndarray:
            z = (unit(h) - centre) / scale
            return np.max([-(((z - m) @ transform) ** 2).sum(axis=1) for m, transform in gaussians], axis=0)

        return lambda test: row_wise(score, test.penultimate)

    def split(self, h: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
        """The training images of each cluster. k-means begins with k-means++ by a fixed seed, on standardised features."""
        if self.clusters == 1:
            return [h]
        if self.clusters > len(h):
            raise UserError(f"clusters must be at most the number of training images, {len(h)}, got {self.clusters}")
        from scipy.cluster.vq import kmeans2  # only where it is asked for

        _, which = kmeans2((unit(h.astype(np.float64)) - centre) / scale, self.clusters, iter=100, minit="++", seed=0)
        return [h[which == c] for c in np.unique(which)]

    def gaussian(self, h: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and whitening of standardised features. Raises UserError where they do not vary."""
        rows = _Units(h)
        mean_of = rows.mean()
        covariance = scatter(rows, mean_of) / np.outer(scale, scale)
        if np.trace(covariance) <= NO_VARIANCE:
            what = f"a cluster of {len(h)} training images does not vary; try fewer clusters"
            raise UserError(f"{type(self).__name__}: {what}")
        channels = int(np.isfinite(scale).sum())
        if len(h) <= channels:
            what = f"{len(h)} training images in a cluster are too few for {channels} channels"
            warn_poor_fit(self, f"{what}: directions in which they do not vary count for nothing")
        return (mean_of - centre) / scale, whitening(covariance)
