"""Scores of a feature vector against the mean of the class that is predicted, or against its weights: CARef, CADRef, NCI."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import choice, number
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer, check_not_all_zero, class_means, mean, row_wise, warn_poor_fit
from common.scorers.neighbours import SMALLEST

SHORTEST = 1e-12  # of the training images' mean length: what a row of zeros is divided by


def _predicted_means(scorer: Scorer, train: Features) -> tuple[np.ndarray, float]:
    """Mean feature of the training images predicted as each class, and the least length to divide by.

    A class that none is predicted as takes the mean of all, with a warning. Raises UserError if all features are zero.
    """
    check_not_all_zero(scorer, train)
    classes = train.logits.shape[1]
    means, counts = class_means(train.penultimate, train.logits.argmax(axis=1), classes)
    length = row_wise(lambda h: np.abs(h).sum(axis=1), train.penultimate).mean()
    if missing := int((counts == 0).sum()):
        what = f"{missing} of {classes} classes are predicted for no training image"
        warn_poor_fit(scorer, f"{what}; the mean of all images takes the place of theirs")
    return np.where(counts[:, None] > 0, means, mean(train.penultimate)), SHORTEST * length


@dataclass(frozen=True)
class CARef(Scorer):
    """-|h - m_c|_1 / |h|_1, c the predicted class and m_c the mean of the training images predicted so (Ling et al. 2025)."""

    needs, train_needs = ("penultimate", "logits"), ("penultimate", "logits")

    def learn(self, train: Features, head: Head | None) -> Score:
        means, shortest = _predicted_means(self, train)

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            error = np.abs(h - means[f.argmax(axis=1)]).sum(axis=1)
            return -error / np.maximum(np.abs(h).sum(axis=1), shortest)

        return lambda test: row_wise(score, test.penultimate, test.logits)


@dataclass(frozen=True)
class CADRef(Scorer):
    """-(e+ / S(f) + e- / mean S): CARef's error split by whether it goes with the sign of the class's weights, e+, or against it, e-.

    S is the energy or the largest logit; its mean is over training images (Ling et al. 2025; the official code has MSP and GEN too).
    """

    needs, train_needs, needs_head = ("penultimate", "logits"), ("penultimate", "logits"), True
    logit: str = choice("energy", ("energy", "maxlogit"), why="S, the score of the logits; CADRef ood_eval.py")

    def learn(self, train: Features, head: Head) -> Score:
        means, shortest = _predicted_means(self, train)
        S = (lambda f: logsumexp(f, axis=1)) if self.logit == "energy" else (lambda f: f.max(axis=1))
        usual, signs = row_wise(S, train.logits).mean(), np.sign(head.weight.astype(np.float64))
        if usual <= 0:
            raise UserError(f"CADRef: the {self.logit} of training images is {usual:g} on average; it must be positive")

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            predicted = f.argmax(axis=1)
            towards = (h - means[predicted]) * signs[predicted]
            length = np.maximum(np.abs(h).sum(axis=1), shortest)
            with_weights, against = (np.maximum(part, 0).sum(axis=1) / length for part in (towards, -towards))
            return -(with_weights / S(f) + against / usual)

        return lambda test: row_wise(score, test.penultimate, test.logits)


@dataclass(frozen=True)
class NCI(Scorer):
    """w_c . (h - mu) / |h - mu|_2 + alpha |h|_1, c the predicted class, mu the mean of all training images (Liu & Qin 2025)."""

    needs, train_needs, needs_head = ("penultimate", "logits"), ("penultimate",), True
    alpha: float = number(
        1e-4, low=0, why="weight of the length, in 1 / unit of features; OpenOOD nci.yml, by the authors"
    )

    def learn(self, train: Features, head: Head) -> Score:
        check_not_all_zero(self, train)
        weight, centre = head.weight.astype(np.float64), mean(train.penultimate)

        def score(h: np.ndarray, f: np.ndarray) -> np.ndarray:
            centred = h - centre
            along = (centred * weight[f.argmax(axis=1)]).sum(axis=1)
            along /= np.maximum(np.linalg.norm(centred, axis=1), SMALLEST)
            return along + self.alpha * np.abs(h).sum(axis=1)

        return lambda test: row_wise(score, test.penultimate, test.logits)
