"""Small made-up worlds of features on which every score ought to tell in- from out-of-distribution."""

import numpy as np

from common.scorers.arrays import Features, Head

CLASSES, OWN, SPARE = 4, 4, 8  # every class has four units of its own; eight more are quiet in distribution


def make_head(channels: int) -> Head:
    weight = np.zeros((CLASSES, channels), np.float32)
    weight[:, : CLASSES * OWN] = np.kron(np.eye(CLASSES), np.ones(OWN)) - 0.3 * np.kron(
        1 - np.eye(CLASSES), np.ones(OWN)
    )
    weight[:, CLASSES * OWN :] = -0.1
    weight *= np.random.default_rng(7).uniform(0.8, 1.2, weight.shape).astype(np.float32)
    return Head(0.5 * weight, np.array([0.1, 0, -0.1, 0.2], np.float32))


def features(kind: str, images: int, seed: int, channels: int = 24, dtype=np.float32) -> Features:
    """`kind`: "id" (a class's own units strong) or "ood" (own units weak, spare ones strong). Arrays are read-only."""
    rng, labels = np.random.default_rng(seed), np.arange(images) % CLASSES
    h = rng.normal(0.2, 0.1, (images, channels))
    own = np.kron(np.eye(CLASSES)[labels], np.ones(OWN)).astype(bool)
    if kind == "id":
        h[:, : CLASSES * OWN][own] += rng.normal(2.8, 0.4, own.sum())
    else:
        h[:, CLASSES * OWN : CLASSES * OWN + SPARE] += 1.3
    return from_penultimate(np.maximum(h, 0).astype(dtype), labels, make_head(channels), seed)


def from_penultimate(h: np.ndarray, labels: np.ndarray, head: Head, seed: int) -> Features:
    rng, dtype = np.random.default_rng(seed + 1000), h.dtype
    logits = (h @ head.weight.T + head.bias).astype(dtype)
    half = h.shape[1] // 2
    split = np.tile(np.array([2, half, h.shape[1] - half], dtype), (len(h), 1))
    norms = np.stack(
        [rng.uniform(1, 2, len(h)), h[:, : CLASSES * OWN].mean(axis=1), rng.uniform(1, 2, len(h))], axis=1
    ).astype(dtype)
    extras = {
        "odin:T=1000,eps=0.0014": logits.max(axis=1),
        "block_norms": norms,
        "jigsaw_block_norms": norms / np.array([1.0, 1.5, 1.2], dtype),
        "second_norm": (2 * np.linalg.norm(h, axis=1)).astype(dtype),
        "channel_maxima": np.concatenate([split, h], axis=1),
    }
    for values in (h, logits, labels, *extras.values()):
        values.flags.writeable = False
    return Features(h, logits, labels, extras)


def rows(given: Features, index) -> Features:
    return Features(
        given.penultimate[index],
        given.logits[index],
        given.labels[index],
        {k: v[index] for k, v in given.extras.items()},
    )
