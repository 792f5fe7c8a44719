"""Scores by distance or direction in feature space: Mahalanobis, relative Mahalanobis, ViM, KNN, SHE, fDBD, DML.

Covariances are summed and decomposed in float64; directions whose variance is below CUTOFF of the largest count as empty and are left out,
so that units which are dead in training change nothing and the unit of the features does not matter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, blocks, class_means, mean, row_wise, warn_missing, warn_poor_fit
from common.scorers.neighbours import SMALLEST, kth_distance, unit

CUTOFF = 1e-12  # of the largest variance; rounding of float32 features stands near 1e-14
NO_VARIANCE = 1e-24  # of the mean square: what float64 means leave of equal rows stands below


def scatter(rows: np.ndarray, centres: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
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


def _class_gaussians(scorer: Scorer, train: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Global mean, whitening of the tied covariance about the means of the true classes, and those means, centred and whitened.

    Raises UserError if no class varies. Warns where fewer images than channels are left after the means, and of classes without images.
    """
    means, counts = class_means(train.penultimate, train.labels, train.logits.shape[1])
    within, centre = scatter(train.penultimate, means, train.labels), mean(train.penultimate)
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


@dataclass(frozen=True)
class Mahalanobis(Scorer):
    """-min_c (h - mu_c)^T P (h - mu_c), P the pseudo-inverse of the tied covariance (Lee et al. 2018; penultimate features, no perturbation)."""

    needs, train_needs = ("penultimate",), ("penultimate", "logits", "labels")

    def learn(self, train: Features, head: Head | None) -> Score:
        centre, transform, means = _class_gaussians(self, train)

        def score(h: np.ndarray) -> np.ndarray:
            return -_squared_distances((h - centre) @ transform, means).min(axis=1)

        return lambda test: row_wise(score, test.penultimate, width=len(means))


@dataclass(frozen=True)
class RelativeMahalanobis(Scorer):
    """-min_c (d_c^2 - d_0^2), d_0 to the one Gaussian of all training images; both covariances divided by N (Ren et al. 2021)."""

    needs, train_needs = ("penultimate",), ("penultimate", "logits", "labels")

    def learn(self, train: Features, head: Head | None) -> Score:
        centre, transform, means = _class_gaussians(self, train)
        if len(means) == 1:
            warn_poor_fit(self, "training images are of one class, whose Gaussian is that of all: every score is 0")
        background = whitening(scatter(train.penultimate, centre))

        def score(h: np.ndarray) -> np.ndarray:
            h = h - centre
            return ((h @ background) ** 2).sum(axis=1) - _squared_distances(h @ transform, means).min(axis=1)

        return lambda test: row_wise(score, test.penultimate, width=len(means))


def origin(head: Head) -> np.ndarray:
    """-pinv(W) b, the point of feature space whose logits are nearest to 0, at the head's own precision."""
    weight = head.weight.astype(np.float64)
    eps = np.finfo(np.float32 if np.array_equal(weight, weight.astype(np.float32)) else np.float64).eps
    return -np.linalg.pinv(weight, rcond=max(weight.shape) * eps) @ head.bias


@dataclass(frozen=True)
class ViM(Scorer):
    """logsumexp(f) - alpha |R^T (h - u)|, u = -pinv(W) b, R the directions of least second moment about u (Wang et al. 2022).

    alpha = mean of the largest logit / mean residual length, over training images. In pinv(W) directions below max(K, C) eps of the largest count
    as none, eps that of float32 even where a float32 head was widened: rows that sum to 0 leave rounding there, which b / 0 would blow up.
    """

    needs, train_needs, family, needs_head = ("penultimate", "logits"), ("penultimate", "logits"), "logit", True
    rule: str = choice(
        "current",
        ("current", "old", "half"),
        why="principal dimensions D from channels C; vim benchmark.py, its older copies, C/2",
    )
    D: int | None = number(None, low=1, why="principal dimensions, below C, instead of the rule")

    def principal_dimensions(self, channels: int) -> int:
        """D for C channels. Raises UserError if no residual direction is left."""
        fixed, half = 1000 if channels >= 2048 else 512, channels // 2
        current = fixed if channels >= 768 else half
        D = self.D or {"current": current, "old": fixed, "half": half}[self.rule]
        if D < channels:
            return D
        what = f"D must be below the {channels} channels of the features, got {D}"
        raise UserError(f"ViM: {what}; nothing would be left as residual")

    def learn(self, train: Features, head: Head) -> Score:
        D = self.principal_dimensions(train.penultimate.shape[1])
        u = origin(head)
        if len(train) < len(u):
            warn_poor_fit(
                self, f"{len(train)} training images are too few for {len(u)} channels: the residual is poorly known"
            )
        moment = scatter(train.penultimate, u)
        R = np.linalg.eigh(moment)[1][:, : len(u) - D]  # ascending: the smallest first

        def residual(h: np.ndarray) -> np.ndarray:
            return np.linalg.norm((h - u) @ R, axis=1)

        length = row_wise(residual, train.penultimate).mean()
        if length**2 <= CUTOFF * np.trace(moment):
            what = f"training features lie in {D} dimensions, nothing is left as residual"
            raise UserError(f"ViM: {what}; choose a smaller D")
        alpha = train.logits.max(axis=1).mean(dtype=np.float64) / length
        if alpha <= 0:
            warn_poor_fit(
                self,
                "the largest logit of training images is not positive on average, so that a residual counts for ID",
            )

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            return logsumexp(f, axis=1) - alpha * residual(h)

        return lambda test: row_wise(score, test.penultimate, test.logits)


def _check_not_all_zero(scorer: Scorer, train: Features) -> None:
    if not train.penultimate.any():
        raise UserError(f"{type(scorer).__name__}: the features of all training images are zero")


@dataclass(frozen=True)
class KNN(Scorer):
    """-(Euclidean distance to the k-th nearest training feature), both scaled to length 1 (Sun et al. 2022)."""

    needs, train_needs = ("penultimate",), ("penultimate",)
    k: int = number(50, low=1, why="which neighbour, of all training images; knn-ood run_cifar.py")

    def learn(self, train: Features, head: Head | None) -> Score:
        if self.k > len(train):
            raise UserError(f"KNN: k must be at most the number of training images, {len(train)}, got {self.k}")
        _check_not_all_zero(self, train)
        return lambda test: row_wise(
            lambda h: -kth_distance(h, train.penultimate, self.k), test.penultimate, width=4096
        )


@dataclass(frozen=True)
class SHE(Scorer):
    """<h, S_c>, c the predicted class and S_c the mean feature of its correctly classified training images (Zhang et al. 2023).

    A class without one falls back, with a warning, to the mean of its images, and one without images to the mean of all.
    """

    needs, train_needs = ("penultimate", "logits"), ("penultimate", "logits", "labels")

    def learn(self, train: Features, head: Head | None) -> Score:
        _check_not_all_zero(self, train)
        right = train.logits.argmax(axis=1) == train.labels
        classes = train.logits.shape[1]
        patterns, counts = class_means(train.penultimate, train.labels, classes, right)
        if (counts == 0).any():
            every, images = class_means(train.penultimate, train.labels, classes)
            fallback = np.where(images[:, None] > 0, every, mean(train.penultimate))
            patterns = np.where(counts[:, None] > 0, patterns, fallback)
            few = f"{(counts == 0).sum()} of {classes} classes have no correctly classified training image"
            warn_poor_fit(self, f"{few}; the mean of all their images, or of all images, takes its place")

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", h, patterns[f.argmax(axis=1)])

        return lambda test: row_wise(score, test.penultimate, test.logits)


@dataclass(frozen=True)
class FDBD(Scorer):
    """Mean distance to the decision boundaries of the other classes, (f_c* - f_c) / |w_c* - w_c|, over |h - mean h| (Liu & Qin 2024)."""

    needs, train_needs, needs_head = ("penultimate", "logits"), ("penultimate",), True

    def learn(self, train: Features, head: Head) -> Score:
        weight, centre = head.weight.astype(np.float64), mean(train.penultimate)
        if len(weight) < 2:
            raise UserError("fDBD: at least two classes are needed, got 1")
        # One row at a time: the expanded square would cancel for nearly equal weights.
        gaps = np.stack([np.linalg.norm(weight - w, axis=1) for w in weight])
        # Equal weights have no boundary between them
        inverse = np.divide(1, gaps, out=np.zeros_like(gaps), where=gaps > 0)

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            margins = f.max(axis=1, keepdims=True) - f
            boundaries = (margins * inverse[f.argmax(axis=1)]).sum(axis=1) / (len(weight) - 1)
            return boundaries / np.maximum(np.linalg.norm(h - centre, axis=1), SMALLEST)

        return lambda test: row_wise(score, test.penultimate, test.logits)


@dataclass(frozen=True)
class DML(Scorer):
    """lambda max_k cos(h, w_k) + |h|: MaxLogit with direction and length apart (Zhang & Xiang 2023). The bias is not used."""

    needs, family, needs_head = ("penultimate",), "logit", True
    lam: float = number(1.0, low=0, why="weight of the cosine, no unit; no value is published")

    def learn(self, train: Features | None, head: Head) -> Score:
        weight = unit(head.weight.astype(np.float64))

        def score(h: np.ndarray) -> np.ndarray:
            return self.lam * (unit(h) @ weight.T).max(axis=1) + np.linalg.norm(h, axis=1)

        return lambda test: row_wise(score, test.penultimate, width=len(weight))
