"""Scores by distance or direction in feature space: KNN, NNGuide, SHE, fDBD, DML, DML+."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, check_not_all_zero, class_means, mean, row_wise, warn_poor_fit
from common.scorers.neighbours import SMALLEST, kth_distance, mean_similarity, unit


def _check_neighbours(scorer: Any, train: Features) -> None:
    if scorer.k > len(train):
        what = f"k must be at most the number of training images, {len(train)}, got {scorer.k}"
        raise UserError(f"{type(scorer).__name__}: {what}")
    check_not_all_zero(scorer, train)


@dataclass(frozen=True)
class KNN(Scorer):
    """-(Euclidean distance to the k-th nearest training feature), both scaled to length 1 (Sun et al. 2022)."""

    needs, train_needs = ("penultimate",), ("penultimate",)
    k: int = number(50, low=1, why="which neighbour, of all training images; knn-ood run_cifar.py")

    def learn(self, train: Features, head: Head | None) -> Score:
        _check_neighbours(self, train)
        return lambda test: row_wise(
            lambda h: -kth_distance(h, train.penultimate, self.k), test.penultimate, width=4096
        )


@dataclass(frozen=True)
class NNGuide(Scorer):
    """E(x) times the mean of the k largest <g(x), E(z) g(z)> over training images z, g = h / |h|, E = logsumexp(f) (Park et al. 2023).

    All training images are searched; the authors draw 1 % of ImageNet's.
    """

    needs, train_needs = ("penultimate", "logits"), ("penultimate", "logits")
    k: int = number(10, low=1, why="how many neighbours; nnguide configs/detector/nnguide.yaml")

    def learn(self, train: Features, head: Head | None) -> Score:
        _check_neighbours(self, train)
        energies = row_wise(lambda f: logsumexp(f, axis=1), train.logits)

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            return mean_similarity(h, train.penultimate, energies, self.k) * logsumexp(f, axis=1)

        return lambda test: row_wise(score, test.penultimate, test.logits, width=4096)


@dataclass(frozen=True)
class SHE(Scorer):
    """<h, S_c>, c the predicted class and S_c the mean feature of its correctly classified training images (Zhang et al. 2023).

    A class without one falls back, with a warning, to the mean of its images, and one without images to the mean of all.
    """

    needs, train_needs = ("penultimate", "logits"), ("penultimate", "logits", "labels")

    def learn(self, train: Features, head: Head | None) -> Score:
        check_not_all_zero(self, train)
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
        check_not_all_zero(self, train)
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


@dataclass(frozen=True)
class DMLPlus(Scorer):
    """lambda max_k cos(h, w_k) + |h'|, h' of a second network, each over its mean of ID training images (Zhang & Xiang 2023, DML+)."""

    needs, train_needs = ("penultimate", "second_norm"), ("penultimate", "second_norm")
    family, needs_head = "logit", True
    lam: float = number(1.0, low=0, why="weight of the cosine, no unit; no value is published")

    def learn(self, train: Features, head: Head) -> Score:
        weight = unit(head.weight.astype(np.float64))

        def cosine(h: np.ndarray) -> np.ndarray:
            return (unit(h) @ weight.T).max(axis=1)

        cosines = row_wise(cosine, train.penultimate, width=len(weight))
        means = cosines.mean(), train.extras["second_norm"].mean(dtype=np.float64)
        if not min(means) > 0:
            said = f"mean largest cosine {means[0]:.3g}, mean length {means[1]:.3g}"
            raise UserError(f"{type(self).__name__}: both means of ID training images must be above 0: {said}")

        def score(test: Features) -> np.ndarray:
            own = row_wise(cosine, test.penultimate, width=len(weight))
            return self.lam * own / means[0] + test.extras["second_norm"].astype(np.float64) / means[1]

        return score
