"""The worlds of the audit: small sets of features on which a score may go wrong, and what is refused or warned of there."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from common.scorers.arrays import Features, Head

World = tuple[Features, Head, Features]


def extras_of(h: np.ndarray, logits: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    rng, seen = np.random.default_rng(seed), h[:, :8]
    norms = rng.uniform(1, 2, (len(h), 3)).astype(h.dtype)
    half = seen.shape[1] // 2
    split = np.tile(np.array([2, half, seen.shape[1] - half], h.dtype), (len(h), 1))
    return {
        "odin:T=1000,eps=0.0014": logits.max(axis=1) / 1000,
        "block_norms": norms,
        "jigsaw_block_norms": norms / np.array([1.0, 1.5, 1.2], h.dtype),
        "second_norm": rng.uniform(1, 2, len(h)).astype(h.dtype),
        "channel_maxima": np.concatenate([split, seen], axis=1),
    }


def world(
    K: int = 5, C: int = 18, N: int = 90, images: int = 12, *, train: Callable = lambda h, y: h, test: Callable = lambda h: h,
    head: Callable = lambda W, b: (W, b), labels: Callable = lambda y: y, relu: bool = True, dtype: type = np.float64, spread: float = 1.0,
) -> World:  # fmt: skip
    """Classes as clouds round their means, and a head that looks towards the means. The functions change what is drawn."""
    rng = np.random.default_rng(K + C)
    centres = 2 * rng.normal(size=(K, C))
    W, b = head(centres / 4, 0.3 * rng.normal(size=K))
    W, b = W.astype(dtype), b.astype(dtype)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(n) % K)
        h = centres[y] + spread * rng.normal(size=(n, C))
        return np.maximum(h, 0) if relu else h, y

    def features(h: np.ndarray, y: np.ndarray | None, seed: int) -> Features:
        h = h.astype(dtype)
        logits = (h @ W.T + b).astype(dtype)
        return Features(h, logits, y, extras_of(h, logits, seed))

    h, y = drawn(N)
    y = labels(y)
    other = drawn(images)[0] * rng.uniform(0.3, 1.5, (images, 1))
    return features(train(h, y), y, 1), Head(W, b), features(test(other), None, 2)


def dead(h: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return h * (np.arange(h.shape[1]) >= 4)


def some_zero(h: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return h * (np.arange(len(h)) % 6 > 0)[:, None]


def whole(h: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """Few distinct values, and rows that come twice."""
    h = np.round(h / 2)
    h[1::2][: len(h) // 2] = h[::2][: len(h) // 2]
    return h


def equal_rows(W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([W[:1], W[:1], W[2:]]), np.r_[b[:1], b[:1], b[2:]]


def of_class(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All images of a class alike."""
    return np.stack([h[np.flatnonzero(y == c)[0]] for c in y])


MADE: dict[str, Callable[[], World]] = {
    "plain": partial(world),
    "float32": partial(world, dtype=np.float32),
    "dead units, alive later": partial(world, train=dead),
    "ties": partial(world, train=whole, test=whole),
    "K = 2": partial(world, K=2),
    "K = 1000": partial(world, K=1000, C=16, N=1100, images=4),
    "C > N": partial(world, K=3, C=60, N=56),
    "C = 520": partial(world, K=3, C=520, N=560, images=4),
    "logits 1e4": partial(world, head=lambda W, b: (1e3 * W, 1e3 * b)),
    "logits 1e-3": partial(world, head=lambda W, b: (1e-4 * W, 1e-4 * b)),
    "negative features": partial(world, relu=False),
    "features 1e-6": partial(
        world, train=lambda h, y: 1e-6 * h, test=lambda h: 1e-6 * h, head=lambda W, b: (1e6 * W, b)
    ),
    "missing classes": partial(world, K=7, labels=lambda y: np.where(y < 2, 2, y)),
    "zero rows": partial(world, train=some_zero, test=some_zero),
    "equal weights": partial(world, head=equal_rows),
    "rows of a float32 head sum to 0": partial(world, head=lambda W, b: ((W - W.mean(0)).astype(np.float32), b)),
    # What says nothing
    "all training features zero": partial(world, train=lambda h, y: 0 * h),
    "one image a class": partial(world, K=20, C=12, N=20),
    "no variance within classes": partial(world, train=of_class),
    "one row for all": partial(world, train=lambda h, y: np.tile(h[:1], (len(h), 1))),
}
WORLDS: dict[str, Callable[[], World]] = {name: cache(made) for name, made in MADE.items()}

GAUSSIAN = ("mahalanobis", "rmd", "mahalanobis++", "rmd++")
NO_COVARIANCE = {name: "do not vary within any class" for name in GAUSSIAN}
NO_DIRECTION = "ClusterMahalanobis: training features do not vary in direction"
NO_RESIDUAL = {
    name: "training features lie in 9 dimensions, nothing is left" for name in ("vim", "vim-half", "residual")
}
REFUSED: dict[str, dict[str, str]] = {
    "all training features zero": NO_COVARIANCE | NO_RESIDUAL | {
        "dice": "DICE: no weight contributes more", "dice+react": "percentile 90 of the training activations is 0",
        "react": "ReAct: percentile 90 of the training activations is 0", "react-99": "ReAct: percentile 99 of the training",
        "knn": "KNN: the features of all training images are zero", "she": "SHE: the features of all training images are zero",
        "line": "LINe: p_w 90 and p_a 90 leave no class an activation", "masf": "MaSF: the channel maxima of all", "masf-p": "MaSF: the channel",
        "neco": "NECO: training features do not vary", "fdbd": "FDBD: the features of all", "nci": "NCI: the features of all", "nnguide": "NNGuide: the features of all training images are zero",
        "ssd": NO_DIRECTION, "dml+": "DMLPlus: both means of ID training images", "caref": "CARef: the features of all training images are zero", "cadref": "CADRef: the features of all training images are zero",
    },
    "one image a class": NO_COVARIANCE | {"knn": "KNN: k must be at most the number of training images, 20, got 50"},
    "no variance within classes": NO_COVARIANCE | NO_RESIDUAL,
    "one row for all": NO_COVARIANCE | NO_RESIDUAL | {"ssd": NO_DIRECTION, "masf": "MaSF: the channel maxima of all", "masf-p": "MaSF: the channel maxima of all", "neco": "NECO: training"},
}  # fmt: skip
for name in MADE:
    if name != "C = 520":
        REFUSED.setdefault(name, {})["vim-old"] = r"ViM: D must be below the \d+ channels of the features, got 512"

FEW = {name: "MaSF: [0-9]+ of [0-9]+ classes have fewer than 8 training images" for name in ("masf", "masf-p")}
NEVER = {
    "klm": "KLMatching: [0-9]+ of [0-9]+ classes are predicted for no fitting image",
    "she": "SHE: [0-9]+ of [0-9]+ classes have no correctly",
    "caref": "CARef: [0-9]+ of [0-9]+ classes are predicted for no training image",
    "cadref": "CADRef: [0-9]+ of [0-9]+ classes are predicted for no training image",
}
SURE = {"msp": "MSP: probabilities of very sure images round to 1 even in float64, and tie"}
SURE_AT_2 = SURE | {"odin-dfb": SURE["msp"].replace("MSP", "ODIN")}  # also at temperature 2
WARNED: dict[str, dict[str, str]] = {
    "K = 1000": FEW | NEVER,
    "C > N": SURE | {"vim": "ViM: 56 training images are too few for 60 channels", "vim-half": "ViM: 56 training", "residual": "Residual: 56 training",
                    "neco": "NECO: 56 training images are too few for 59 channels", "ssd": "56 training images in a cluster are too few for [0-9]+ channels"} | {
        name: "56 training images in 3 classes are too few for [0-9]+ channels" for name in GAUSSIAN
    },
    "C = 520": SURE_AT_2,
    "logits 1e4": SURE_AT_2,
    "missing classes": FEW | {"she": NEVER["she"]} | {
        name: r"2 of 7 classes have no training image \(0, 1\)" for name in (*GAUSSIAN, "line")
    },
    "equal weights": NEVER,
    "all training features zero": {"klm": NEVER["klm"]},
    "one image a class": FEW | NEVER,
    "no variance within classes": FEW,
    "one row for all": NEVER | {"line": "LINe: 1 of 5 classes keep no activation with a weight: their images score alike"},
}  # fmt: skip
