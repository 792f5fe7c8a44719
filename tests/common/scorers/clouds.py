"""Five clouds of features with a head, and the scores of a scorer by its name on them."""

import numpy as np

from common.scorers import scorer
from common.scorers.arrays import Features, Head

RNG = np.random.default_rng(0)


def of(h, logits=None, labels=None) -> Features:
    h = np.array(h, dtype=np.float64)
    return Features(
        h,
        np.zeros((len(h), 2)) if logits is None else np.array(logits, float),
        None if labels is None else np.array(labels),
    )


HEAD = Head(RNG.normal(size=(5, 12)), RNG.normal(size=5))


def clouds(seed: int, images: int = 200, scale: float = 1.0) -> Features:
    rng, labels = np.random.default_rng(seed), np.arange(images) % 5
    h = scale * (
        np.random.default_rng(9).normal(0, 2, (5, 12))[labels] + rng.normal(size=(images, 12)) * np.linspace(0.3, 2, 12)
    )
    return Features(h, h @ HEAD.weight.T + HEAD.bias, labels)


TRAIN, TEST = clouds(1), clouds(2, 30)


def scores(name: str, train: Features = TRAIN, test: Features = TEST, head: Head | None = HEAD) -> np.ndarray:
    return scorer(name).fit(train, head)(test)
