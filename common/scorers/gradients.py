"""GradNorm: the gradient of a linear head has a closed form, so that no backward pass is needed."""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from common.cli.recipes import number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, row_wise


@dataclass(frozen=True)
class GradNorm(Scorer):
    """L1 norm of the gradient w.r.t. W of CE(uniform, softmax(f / T)) = |softmax(f / T) - 1/K|_1 |h|_1 / T (Huang et al. 2021)."""

    needs = ("penultimate", "logits")
    T: float = number(1.0, low=1e-6, high=1e6, why="temperature, no unit; gradnorm_ood test_ood.py")

    def learn(self, train: Features | None, head: Head | None) -> Score:
        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            residual = softmax(f / self.T, axis=1) - 1 / f.shape[1]
            return np.abs(residual).sum(axis=1) / self.T * np.abs(h).sum(axis=1)

        return lambda test: row_wise(score, test.penultimate, test.logits)
