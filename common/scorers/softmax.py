"""Scores that are functions of the softmax: MSP, ODIN, KL-Matching, GEN."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from common.features import Features, Head
from common.recipes import choice, number
from common.scorers.base import Score, Scorer, array, logsumexp, row_wise, softmax


@dataclass(frozen=True)
class MSP(Scorer):
    """Largest softmax probability (Hendrycks & Gimpel 2017). In float64: in float32 sure images all round to exactly 1 and tie."""

    family: ClassVar[str] = "softmax"

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return lambda test: row_wise(lambda f: np.exp(f.max(axis=1) - logsumexp(f)), test.logits)


@dataclass(frozen=True)
class ODIN(Scorer):
    """max softmax(f(x~) / T) with x~ = x - eps sign(grad_x CE(f(x) / T, argmax f(x))) (Liang et al. 2018).

    eps is in pixel units of [0, 1], whatever the normalisation, with sign(0) = 0 and no clamp to the pixel range. The step needs a
    gradient, so the finished score comes as an extra named `odin:T=..,eps=..`; without a step the logits are enough.
    """

    family: ClassVar[str] = "softmax"
    T: float = number(1000.0, low=1e-6, why="temperature, no unit; ODIN README")
    eps: float = number(0.0014, low=0, high=1, why="step in pixel units of [0, 1]; ODIN README, DenseNet-BC on CIFAR-10")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",) if self.eps == 0 else (f"odin:T={self.T:g},eps={self.eps:g}",)

    def learn(self, train: Features | None, head: Head | None) -> Score:
        if self.eps > 0:
            return lambda test: array(test, self.needs[0])
        return lambda test: row_wise(lambda f: np.exp(f.max(axis=1) / self.T - logsumexp(f / self.T)), test.logits)
