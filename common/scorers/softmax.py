"""Scores that are functions of the softmax: MSP, ODIN, KL-Matching, GEN. The softmax is taken in float64: in float32 sure images tie at 1."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from common.cli.recipes import number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, array, blocks, class_sums, row_wise, warn_poor_fit


def log_softmax(f: np.ndarray) -> np.ndarray:
    """log p of each row; that of the largest by log1p, so that the log of a p next to 1 keeps its digits (scipy's rounds to 0)."""
    rows, top = np.arange(len(f)), f.argmax(axis=1)
    rest = f - f[rows, top][:, None]
    others = np.exp(rest)
    others[rows, top] = 0
    return rest - np.log1p(others.sum(axis=1, keepdims=True))


def _largest_probability(scorer: Scorer, T: float) -> Score:
    """max softmax(f / T). Warns where order is lost."""

    def score(f: np.ndarray) -> np.ndarray:
        p = np.exp(f.max(axis=1) / T - logsumexp(f / T, axis=1))
        if (p == 1).sum() > 1:
            warn_poor_fit(scorer, "probabilities of very sure images round to 1 even in float64, and tie")
        return p

    return lambda test: row_wise(score, test.logits)


@dataclass(frozen=True)
class MSP(Scorer):
    """Largest softmax probability (Hendrycks & Gimpel 2017)."""

    family = "softmax"

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return _largest_probability(self, T=1.0)


def _digits(value: float) -> str:
    """All digits, so that unlike settings never share an extra; a whole number without ".0"."""
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class ODIN(Scorer):
    """max softmax(f(x~) / T) with x~ = x - eps sign(grad_x CE(f(x) / T, argmax f(x))) (Liang et al. 2018).

    eps is in pixel units of [0, 1], whatever the normalisation, with sign(0) = 0 and no clamp to the pixel range. The step needs a
    gradient, so the finished score comes as an extra named `odin:T=..,eps=..`; without a step the logits are enough.
    """

    family = "softmax"
    T: float = number(1000.0, low=1e-6, high=1e6, why="temperature, no unit; ODIN README")
    eps: float = number(
        0.0014, low=0, high=1, why="step in pixel units of [0, 1]; ODIN README, DenseNet-BC on CIFAR-10"
    )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",) if self.eps == 0 else (f"odin:T={_digits(self.T)},eps={_digits(self.eps)}",)

    def learn(self, train: Features | None, head: Head | None) -> Score:
        if self.eps > 0:
            return lambda test: array(test, self.needs[0])
        return _largest_probability(self, self.T)


@dataclass(frozen=True)
class KLMatching(Scorer):
    """-min_c KL(p, d_c), d_c the mean softmax of the fitting images predicted as c (Hendrycks et al. 2022). True labels play no part.

    A class that is never predicted has no prototype and is left out. log d is a log-sum-exp: exact where d itself would underflow, and finite.
    """

    train_needs, family = ("logits",), "softmax"

    def learn(self, train: Features, head: Head | None) -> Score:
        classes = train.logits.shape[1]
        predicted = train.logits.argmax(axis=1)
        counts = np.bincount(predicted, minlength=classes)
        if missing := int((counts == 0).sum()):
            warn_poor_fit(
                self, f"{missing} of {classes} classes are predicted for no fitting image and have no prototype"
            )
        parts = list(blocks(len(train), 8 * classes))
        log_p = lambda part: log_softmax(train.logits[part].astype(np.float64))  # noqa: E731
        peaks, sums = np.full((classes, classes), -np.inf), np.zeros((classes, classes))
        for part in parts:
            np.maximum.at(peaks, predicted[part], log_p(part))
        for part in parts:
            sums += class_sums(np.exp(log_p(part) - peaks[predicted[part]]), predicted[part], classes)
        seen = counts > 0
        log_prototypes = peaks[seen] + np.log(sums[seen] / counts[seen, None])

        def score(f: np.ndarray) -> np.ndarray:
            log_p = log_softmax(f)
            p = np.exp(log_p)
            return (p @ log_prototypes.T).max(axis=1) - (p * log_p).sum(axis=1)

        return lambda test: row_wise(score, test.logits)


@dataclass(frozen=True)
class GEN(Scorer):
    """-sum over the M largest p_j of (p_j (1 - p_j))^gamma, generalised entropy (Liu et al. 2023). M above K counts as K."""

    family = "softmax"
    gamma: float = number(0.1, low=1e-6, high=10, why="exponent, no unit; GEN benchmark.py")
    M: int = number(
        100, low=1, why="how many of the largest probabilities count; GEN benchmark.py (ImageNet, CIFAR-100)"
    )

    def learn(self, train: Features | None, head: Head | None) -> Score:
        def score(f: np.ndarray) -> np.ndarray:
            log_p = log_softmax(np.sort(f, axis=1)[:, ::-1])
            # log (1 - p) of the largest without cancellation, and none underflows: gamma = 0.1 makes both visible
            largest = np.logaddexp.reduce(log_p[:, 1:], axis=1, keepdims=True)
            log_rest = np.hstack([largest, np.log1p(-np.exp(log_p[:, 1 : self.M]))])
            return -np.exp(self.gamma * (log_p[:, : self.M] + log_rest)).sum(axis=1)

        return lambda test: row_wise(score, test.logits)
