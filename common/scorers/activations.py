"""Energy of logits computed anew from shaped activations or thinned weights: ReAct, DICE, LINe, ASH, SCALE.

The head is linear, so that each costs one matrix product on the stored penultimate features. Accuracy is that of the unmodified network.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from common.features import Features, Head
from common.recipes import number
from common.scorers.base import Score, Scorer, logsumexp, percentile, row_wise


def head_energy(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """logsumexp(W h + b) of each row."""
    return logsumexp(features @ weight.T + bias)


@dataclass(frozen=True)
class ReAct(Scorer):
    """logsumexp(W min(h, c) + b) with c the percentile over all entries (images x channels) of the training features (Sun et al. 2021)."""

    needs: ClassVar[tuple[str, ...]] = ("penultimate",)
    train_needs: ClassVar[tuple[str, ...]] = ("penultimate",)
    family: ClassVar[str] = "logit"
    needs_head: ClassVar[bool] = True
    percentile: float = number(90.0, low=0, high=100, why="in 0..100, of all training activations; react compute_threshold.py")

    def learn(self, train: Features, head: Head) -> Score:
        c = percentile(train.penultimate, self.percentile)
        return lambda test: row_wise(lambda h: head_energy(np.minimum(h, c), head.weight, head.bias), test.penultimate, len(head.bias))
