"""Scores by a subspace of feature space: ViM, its residual alone, NECO."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, mean, per_cent, row_wise, warn_poor_fit
from common.scorers.gaussians import CUTOFF, scatter
from common.scorers.neighbours import SMALLEST


def origin(head: Head) -> np.ndarray:
    """-pinv(W) b, the point of feature space whose logits are nearest to 0, at the head's own precision."""
    weight = head.weight.astype(np.float64)
    eps = np.finfo(np.float32 if np.array_equal(weight, weight.astype(np.float32)) else np.float64).eps
    return -np.linalg.pinv(weight, rcond=max(weight.shape) * eps) @ head.bias


def _length(u: np.ndarray, R: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """|R^T (h - u)| of each row of a block of features."""
    return lambda h: np.linalg.norm((h - u) @ R, axis=1)


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
        raise UserError(f"{type(self).__name__}: {what}; nothing would be left as residual")

    def subspace(self, train: Features, head: Head) -> tuple[np.ndarray, np.ndarray, float]:
        """u (channels), R (channels x residual directions), and the mean of |R^T (h - u)| over training images."""
        name, D = type(self).__name__, self.principal_dimensions(train.penultimate.shape[1])
        u = origin(head)
        if len(train) < len(u):
            what = f"{len(train)} training images are too few for {len(u)} channels"
            warn_poor_fit(self, f"{what}: the residual is poorly known")
        moment = scatter(train.penultimate, u)
        R = np.linalg.eigh(moment)[1][:, : len(u) - D]  # ascending: the smallest first
        length = row_wise(_length(u, R), train.penultimate).mean()
        if length**2 <= CUTOFF * np.trace(moment):
            what = f"training features lie in {D} dimensions, nothing is left as residual"
            raise UserError(f"{name}: {what}; choose a smaller D")
        return u, R, length

    def alpha(self, train: Features, length: float) -> float:
        """What a residual of mean `length` counts in the unit of logits."""
        alpha = train.logits.max(axis=1).mean(dtype=np.float64) / length
        if alpha <= 0:
            what = "the largest logit of training images is not positive on average"
            warn_poor_fit(self, f"{what}, so that a residual counts for ID")
        return alpha

    def learn(self, train: Features, head: Head) -> Score:
        u, R, length = self.subspace(train, head)
        residual, alpha = _length(u, R), self.alpha(train, length)

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            return logsumexp(f, axis=1) - alpha * residual(h)

        return lambda test: row_wise(score, test.penultimate, test.logits)


@dataclass(frozen=True)
class Residual(ViM):
    """-|R^T (h - u)|: ViM without the logits (Wang et al. 2022, vim benchmark.py)."""

    needs, train_needs, family = ("penultimate",), ("penultimate",), "other"

    def learn(self, train: Features, head: Head) -> Score:
        residual = _length(*self.subspace(train, head)[:2])
        return lambda test: row_wise(lambda h: -residual(h), test.penultimate)


@dataclass(frozen=True)
class NECO(Scorer):
    """|V^T z| / |z|, z the features with mean 0 and deviation 1 a channel over training images, V their first principal directions (Ben Ammar
    et al. 2024, Eq. 6). A channel that does not vary in training is centred only. times="maxlogit" multiplies by the largest logit.
    """

    train_needs = ("penultimate",)
    variance: float = per_cent(
        90.0, why="of the variance that the directions explain at least; maha-norm's adaptive rule"
    )
    D: int | None = number(None, low=1, why="how many directions, instead of the share; the authors' runs have 100")
    times: str = choice("none", ("none", "maxlogit"), why="none for ResNets, maxlogit for ViTs in the authors' runs")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("penultimate",) if self.times == "none" else ("penultimate", "logits")

    def learn(self, train: Features, head: Head | None) -> Score:
        V, centre, deviation = self.directions(train)

        def ratio(h: np.ndarray) -> np.ndarray:
            z = (h - centre) / deviation
            return np.linalg.norm(z @ V, axis=1) / np.maximum(np.linalg.norm(z, axis=1), SMALLEST)

        if self.times == "none":
            return lambda test: row_wise(ratio, test.penultimate)
        return lambda test: row_wise(lambda h, f: ratio(h) * f.max(axis=1), test.penultimate, test.logits)

    def directions(self, train: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """V, and what standardises: mean and deviation of each channel, 1 where it does not vary."""
        centre, channels = mean(train.penultimate), train.penultimate.shape[1]
        covariance = scatter(train.penultimate, centre)
        deviation = np.sqrt(np.diag(covariance))
        alive = deviation > 1e-12 * np.abs(centre)
        if not alive.any():
            raise UserError("NECO: training features do not vary, so that there is no principal direction")
        if len(train) <= alive.sum():
            what = f"{len(train)} training images are too few for {alive.sum()} channels"
            warn_poor_fit(self, f"{what}: the principal directions are poorly known")
        deviation[~alive] = 1
        values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        shares = values.cumsum() / values.sum()
        D = self.D or int((shares < self.variance / 100).sum()) + 1
        if D > channels:
            raise UserError(f"NECO: D must be at most the {channels} channels of the features, got {D}")
        return vectors[:, :D], centre, deviation
