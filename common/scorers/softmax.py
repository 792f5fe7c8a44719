"""Scores that are functions of the softmax: MSP, ODIN, KL-Matching, GEN. The softmax is taken in float64: in float32 sure images tie at 1."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax, xlogy

from common.cli.recipes import number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, array, blocks, class_sums, row_wise


def largest_probability(f: np.ndarray) -> np.ndarray:
    return np.exp(f.max(axis=1) - logsumexp(f, axis=1))


@dataclass(frozen=True)
class MSP(Scorer):
    """Largest softmax probability (Hendrycks & Gimpel 2017)."""

    family = "softmax"

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return lambda test: row_wise(largest_probability, test.logits)


@dataclass(frozen=True)
class ODIN(Scorer):
    """max softmax(f(x~) / T) with x~ = x - eps sign(grad_x CE(f(x) / T, argmax f(x))) (Liang et al. 2018).

    eps is in pixel units of [0, 1], whatever the normalisation, with sign(0) = 0 and no clamp to the pixel range. The step needs a
    gradient, so the finished score comes as an extra named `odin:T=..,eps=..`; without a step the logits are enough.
    """

    family = "softmax"
    T: float = number(1000.0, low=1e-6, why="temperature, no unit; ODIN README")
    eps: float = number(
        0.0014, low=0, high=1, why="step in pixel units of [0, 1]; ODIN README, DenseNet-BC on CIFAR-10"
    )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",) if self.eps == 0 else (f"odin:T={self.T:g},eps={self.eps:g}",)

    def learn(self, train: Features | None, head: Head | None) -> Score:
        if self.eps > 0:
            return lambda test: array(test, self.needs[0])
        return lambda test: row_wise(lambda f: largest_probability(f / self.T), test.logits)


@dataclass(frozen=True)
class KLMatching(Scorer):
    """-min_c KL(p, d_c), d_c the mean softmax of the fitting images predicted as c (Hendrycks et al. 2022). True labels play no part.

    A class that is never predicted has no prototype and is left out. d is kept above `floor`, so that a saturated prototype gives no infinity.
    """

    train_needs, family = ("logits",), "softmax"
    floor: float = number(1e-12, low=1e-300, high=1e-3, why="smallest probability in a prototype; ours")

    def learn(self, train: Features, head: Head | None) -> Score:
        classes = train.logits.shape[1]
        sums, counts = np.zeros((classes, classes)), np.zeros(classes)
        for part in blocks(len(train), 8 * classes):
            p = softmax(train.logits[part].astype(np.float64), axis=1)
            predicted = p.argmax(axis=1)
            sums += class_sums(p, predicted, classes)
            counts += np.bincount(predicted, minlength=classes)
        seen = counts > 0
        log_prototypes = np.log(np.maximum(sums[seen] / counts[seen, None], self.floor))

        def score(f: np.ndarray) -> np.ndarray:
            p = softmax(f, axis=1)
            return (p @ log_prototypes.T).max(axis=1) - xlogy(p, p).sum(axis=1)

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
            p = np.sort(softmax(f, axis=1), axis=1)[:, ::-1]
            rest = 1 - p
            # 1 - p of the largest, without the cancellation that gamma = 0.1 would make visible
            rest[:, 0] = p[:, 1:].sum(axis=1)
            return -((p * rest)[:, : self.M] ** self.gamma).sum(axis=1)

        return lambda test: row_wise(score, test.logits)
