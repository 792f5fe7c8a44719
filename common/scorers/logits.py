"""Scores read off the logits alone, in the logits' unit: MaxLogit and Energy."""

from dataclasses import dataclass

from scipy.special import logsumexp

from common.cli.recipes import number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, row_wise


@dataclass(frozen=True)
class MaxLogit(Scorer):
    """Largest logit (Hendrycks et al. 2022)."""

    family = "logit"

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return lambda test: test.logits.max(axis=1)


@dataclass(frozen=True)
class Energy(Scorer):
    """T logsumexp(f / T), the negative energy (Liu et al. 2020; LBF Eq. 8)."""

    family = "logit"
    T: float = number(1.0, low=1e-6, high=1e6, why="temperature, no unit; energy_ood's default")

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return lambda test: row_wise(lambda f: self.T * logsumexp(f / self.T, axis=1), test.logits)
