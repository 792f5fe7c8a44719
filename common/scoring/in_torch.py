"""Scores as torch modules, for graphs that leave Python: the numbers of common.scorers, in float64 as there.

A form is called with what a network says of a batch: penultimate "batch channels", logits "batch classes" -> score "batch". What a fit has
learnt it takes from the scorer itself. It does not look for NaN, which the scorer would refuse. Numbers that are not whole are
buffers: torch's exporter rounds Python's to float32.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.cli.errors import UserError
from common.scorers import SCORERS, Features, Head, Scorer
from common.scorers.activations import ASH, LARGEST_EXPONENT, SCALE, ReAct
from common.scorers.base import row_wise
from common.scorers.distances import KNN
from common.scorers.logits import Energy, MaxLogit
from common.scorers.neighbours import SMALLEST, unit
from common.scorers.softmax import MSP, ODIN
from common.scorers.subspaces import ViM

BANK = 50_000  # training images that KNN may carry along: of 512 channels 100 MB
Pooled = Float[Tensor, "batch channels"]
Logits = Float[Tensor, "batch classes"]
Score = Float[Tensor, " batch"]


def exact(value: float) -> Float[Tensor, ""]:
    return torch.tensor(value, dtype=torch.float64)


class OfLogits(nn.Module):
    """A function of the logits and a temperature."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], T: float = 1.0):
        super().__init__()
        self.function = function
        self.register_buffer("T", exact(T))

    def forward(self, penultimate: Pooled, logits: Logits) -> Score:
        return self.function(logits.double(), self.T)


def energy(f: Tensor, T: Tensor) -> Tensor:
    return T * (f / T).logsumexp(1)


def probability(f: Tensor, T: Tensor) -> Tensor:
    """max softmax(f / T)"""
    return (f.amax(1) / T - (f / T).logsumexp(1)).exp()


class OfShaped(nn.Module):
    """logsumexp(W s(h) + b), s what becomes of the features, none of them above `largest`."""

    def __init__(self, shaped: Callable[[Tensor], Tensor], head: Head, largest: float | None = None):
        super().__init__()
        self.shaped = shaped
        self.register_buffer("largest", None if largest is None else exact(largest))
        self.register_buffer("weight", torch.tensor(head.weight))
        self.register_buffer("bias", torch.tensor(head.bias))

    def forward(self, penultimate: Pooled, logits: Logits) -> Score:
        h = self.shaped(penultimate.double())
        h = h if self.largest is None else h.minimum(self.largest)
        return (h @ self.weight.double().T + self.bias.double()).logsumexp(1)


def kept(h: Tensor, p: float) -> tuple[Tensor, int]:
    """1 where each row's largest entries are, n - round(n p / 100) of them, and 0; among equals the first ones, whatever topk takes."""
    n_kept = h.shape[1] - round(h.shape[1] * p / 100)
    least = h.topk(n_kept, dim=1).values.amin(1, keepdim=True)
    above, level = (h > least).double(), (h == least).double()
    return above + level * (level.cumsum(1) <= n_kept - above.sum(1, keepdim=True)).double(), n_kept


def expansion(h: Tensor, mask: Tensor) -> Tensor:
    """exp(s1 / s2), s1 the row's sum and s2 that of what is kept; of a row of zeros e, which changes nothing."""
    s1, s2 = h.sum(1, keepdim=True), (h * mask).sum(1, keepdim=True)
    ratio = torch.where(s2 == 0, torch.ones_like(s1), s1 / torch.where(s2 == 0, torch.ones_like(s2), s2))
    return ratio.clamp(max=LARGEST_EXPONENT).exp()


def ash(h: Tensor, how: ASH) -> Tensor:
    mask, n_kept = kept(h, how.percentile)
    if how.variant == "b":
        return mask * h.sum(1, keepdim=True) / n_kept
    return h * mask * expansion(h, mask) if how.variant == "s" else h * mask


class Subspace(nn.Module):
    """logsumexp(f) - alpha |R^T (h - u)|"""

    def __init__(self, u: np.ndarray, R: np.ndarray, alpha: float):
        super().__init__()
        self.register_buffer("alpha", exact(alpha))
        self.register_buffer("u", torch.from_numpy(u.copy()))
        self.register_buffer("R", torch.from_numpy(R.copy()))

    def forward(self, penultimate: Pooled, logits: Logits) -> Score:
        residual = (penultimate.double() - self.u) @ self.R
        return logits.double().logsumexp(1) - self.alpha * residual.square().sum(1).sqrt()


class Neighbours(nn.Module):
    """-(distance to the k-th nearest row of the bank), all scaled to length 1. The bank is kept in float32: distances move by 1e-7 at most."""

    def __init__(self, bank: np.ndarray, k: int):
        super().__init__()
        self.k = k
        self.register_buffer("smallest", exact(SMALLEST))
        self.register_buffer("bank", torch.from_numpy(row_wise(unit, bank).astype(np.float32)))

    def forward(self, penultimate: Pooled, logits: Logits) -> Score:
        h, bank = penultimate.double(), self.bank.double()
        g = h / h.square().sum(1, keepdim=True).sqrt().maximum(self.smallest)
        squares = g.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * g @ bank.T
        return -squares.topk(self.k, dim=1, largest=False).values.amax(1).clamp(min=0).sqrt()


def _vim(how: ViM, train: Features, head: Head) -> nn.Module:
    u, R, length = how.subspace(train, head)
    return Subspace(u, R, how.alpha(train, length))


def _knn(how: KNN, train: Features, _: Head) -> nn.Module:
    if len(train) > BANK:
        raise UserError(
            f"knn carries its training images along, at most {BANK:,} in ONNX, and this one has {len(train):,};"
            f" fit it with a limit of {BANK:,}"
        )
    return Neighbours(train.penultimate, how.k)


FORMS: dict[type[Scorer], Callable[..., nn.Module]] = {
    Energy: lambda how, *_: OfLogits(energy, how.T),
    MSP: lambda *_: OfLogits(probability),
    ODIN: lambda how, *_: OfLogits(probability, how.T),  # without a step
    MaxLogit: lambda *_: OfLogits(lambda f, _: f.amax(1)),
    ReAct: lambda how, train, head: OfShaped(lambda h: h, head, how.threshold(train)),
    ASH: lambda how, _, head: OfShaped(lambda h: ash(h, how), head),
    SCALE: lambda how, _, head: OfShaped(lambda h: h * expansion(h, kept(h, how.percentile)[0]), head),
    ViM: _vim,
    KNN: _knn,
}


def has_form(scorer: Scorer) -> bool:
    return type(scorer) in FORMS and set(scorer.needs) <= {"penultimate", "logits"}


def in_torch(scorer: Scorer, name: str, train: Features | None, head: Head) -> nn.Module:
    """The module of a score with what it has learnt of `train`. Raises UserError for a score that has none, and a KNN of too many images."""
    if not has_form(scorer):
        able = ", ".join(key for key, known in SCORERS.items() if has_form(known))
        raise UserError(f"{name} has no form outside of Python; these have: {able}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a poor fit it was warned when the scorer was fitted
        return FORMS[type(scorer)](scorer, train, head).eval()
