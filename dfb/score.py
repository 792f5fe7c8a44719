"""The background score and the joint score (DFB Eq. 6, 7). Every score is larger for in-distribution; dfb's sign is a switch, not a fact.

score = JointScorer("energy").fit(train, head)      # train, head: features and head of the (K+1)-class network
s = score(test)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import logsumexp

from common.cli.errors import UserError
from common.cli.recipes import check, choice, number
from common.scorers import SCORERS, Scorer, scorer
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, check_features
from common.scorers.subspaces import ViM

SIGNS = ("plus", "minus", "two_sided")
BRANCHES = ("auto", "softmax", "logit", "standardised")
EPS = 1e-6  # S_b at or below it has no useful logarithm
MOST_OOD = -1e300  # what a score that is not defined is ranked as

Scores = Float[np.ndarray, " images"]


def background_score(features: Features) -> Scores:
    """S_b, the last of the K+1 logits (Eq. 6); not oriented."""
    return features.logits[:, -1].astype(np.float64)


def guard_fires(background: Scores) -> Bool[np.ndarray, " images"]:
    """Where S_b <= EPS, so that log S_b is undefined or meaningless."""
    return background <= EPS


def guarded_log(background: Scores, guard: str = "clamp") -> Scores:
    """log S_b, made harmless where S_b <= 0.

    "clamp": log max(S_b, EPS), the paper's value wherever the guard does not fire. "softplus": log log(1 + e^S_b), keeps every order. "sigmoid":
    log 1/(1 + e^-S_b), keeps order but is flat for large S_b. "raw": as it is, NaN where S_b <= 0.
    """
    if guard == "clamp":
        return np.log(np.maximum(background, EPS))
    softplus = np.logaddexp(0, background)
    if guard == "softplus":
        # For very negative S_b softplus underflows; there log softplus(x) = x to double precision.
        return np.where(background < -30, background, np.log(np.maximum(softplus, 1e-300)))
    if guard == "sigmoid":
        return -np.logaddexp(0, -background)
    if guard == "raw":
        return np.log(np.where(background > 0, background, np.nan))
    raise UserError(f"log_guard must be one of clamp, softplus, sigmoid, raw, got {guard!r}")


FG_LOGITS = choice("first_k", ("first_k", "all"), why="softmax and logsumexp over K or K+1 logits; dfb.md 4.5")
VIM_HEAD = choice("first_k", ("first_k", "all"), why="head rows of ViM's origin u, of no other score; dfb.md 4.6")


@dataclass(frozen=True)
class BackgroundOnly(Scorer):
    """S_b alone: "plus" is S_b, "minus" -S_b, "two_sided" -|S_b - mu| / sigma with mean and deviation over ID training images."""

    sign: str = choice("plus", SIGNS, why="which S_b counts as in-distribution: large, small, or usual; dfb.md 4.1")

    @property
    def train_needs(self) -> tuple[str, ...]:
        return ("logits",) if self.sign == "two_sided" else ()

    def learn(self, train: Features | None, head: Head | None) -> Score:
        if self.sign == "plus":
            return background_score
        if self.sign == "minus":
            return lambda test: -background_score(test)
        mean, deviation = mean_and_deviation(background_score(train))
        return lambda test: -np.abs(background_score(test) - mean) / deviation


class _OnFirstK:
    """What a score with a field `foreground` asks for: what that scorer does, and logits for the background."""

    foreground: Scorer | str
    fg_logits: str
    vim_head: str

    def __post_init__(self) -> None:
        if isinstance(self.foreground, str):
            object.__setattr__(self, "foreground", scorer(self.foreground))
        check(self)
        # Another need than logits is ODIN's step: it goes by the first K of them.
        over_all = type(self.foreground) in _OVER_ALL and self.foreground.needs == ("logits",)
        if self.fg_logits == "all" and not over_all:
            defined = "msp, odin without a step, energy and maxlogit"
            raise UserError(f"fg_logits all is defined for {defined}, not for {self.foreground}")

    @property
    def family(self) -> str:
        return self.foreground.family

    @property
    def needs_head(self) -> bool:
        return self.foreground.needs_head

    @property
    def needs(self) -> tuple[str, ...]:
        own = () if self.fg_logits == "all" else self.foreground.needs
        return tuple(dict.fromkeys([*own, "logits"]))

    @property
    def train_needs(self) -> tuple[str, ...]:
        return self.foreground.train_needs

    def learn_foreground(self, train: Features | None, head: Head | None) -> Score:
        """S_h: the scorer on the first K logits and head rows; with fg_logits "all", its softmax or logsumexp runs over K+1."""
        if self.fg_logits == "all":
            over_all = _OVER_ALL[type(self.foreground)]
            return lambda test: over_all(self.foreground, test.logits.astype(np.float64))
        first_k = lambda features: replace(features, logits=features.logits[:, :-1])  # noqa: E731
        train = None if train is None else first_k(train)
        if "labels" in self.train_needs:
            check_features(train, ("labels",), None, "training images")  # none of them is background
        # ViM sees the head through its origin alone.
        all_rows = head is None or self.vim_head == "all" and isinstance(self.foreground, ViM)
        learned = self.foreground.learn(train, head if all_rows else Head(head.weight[:-1], head.bias[:-1]))
        return lambda test: np.asarray(learned(first_k(test)), dtype=np.float64)


@dataclass(frozen=True)
class ForegroundOnly(_OnFirstK, Scorer):
    """S_h alone, without the background."""

    foreground: Scorer | str
    fg_logits: str = FG_LOGITS
    vim_head: str = VIM_HEAD

    def learn(self, train: Features | None, head: Head | None) -> Score:
        return self.learn_foreground(train, head)


@dataclass(frozen=True)
class JointScorer(_OnFirstK, Scorer):
    """A foreground score S_h on the first K logits joined with the background score S_b, the last logit (Eq. 7).

    Softmax-valued S_h: S = S_h + log S_b. Logit-valued S_h: S = S_h + S_b / T. With sign "minus" the second term is subtracted; with "two_sided" it
    is -|S_b - mu| / (sigma T), mu and sigma over ID training images. Scores of neither kind are standardised on ID training images
    first: z(S_h) + z(S_b) / T, an extension of ours.
    """

    foreground: Scorer | str
    temperature: float = number(2.5, low=0, why="T of Eq. 7, no unit; DFB section 4")
    sign: str = choice("plus", SIGNS, why="of S_b; plus as printed; dfb.md 4.1")
    log_guard: str = choice("clamp", ("clamp", "softplus", "sigmoid", "raw"), why="log of S_b <= 0; dfb.md 4.2")
    logit_combine: str = choice("bg_over_T", ("bg_over_T", "both_over_T", "none"), why="what T divides; dfb.md 4.3")
    branch: str = choice("auto", BRANCHES, why="of Eq. 7; auto goes by the score's family; dfb.md 4.4")
    softmax_T: str = choice("none", ("none", "log_over_T"), why="T in the softmax branch; none as printed; dfb.md 5.3")
    fg_logits: str = FG_LOGITS
    vim_head: str = VIM_HEAD

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise UserError(f"temperature must be > 0, got {self.temperature:g}")

    @property
    def alone(self) -> ForegroundOnly:
        """The foreground score without the background."""
        return ForegroundOnly(self.foreground, self.fg_logits, self.vim_head)

    @property
    def resolved_branch(self) -> str:
        """The branch of Eq. 7 that is used."""
        family = {"softmax": "softmax", "logit": "logit"}.get(self.family, "standardised")
        return family if self.branch == "auto" else self.branch

    @property
    def train_needs(self) -> tuple[str, ...]:
        own = self.needs if self.resolved_branch == "standardised" else ("logits",) if self.sign == "two_sided" else ()
        return tuple(dict.fromkeys([*super().train_needs, *own]))

    def learn(self, train: Features | None, head: Head | None) -> Score:
        s_h, standardised = self.learn_foreground(train, head), self.resolved_branch == "standardised"
        (mu_h, sigma_h), (mu, sigma) = (0.0, 1.0), (None, None)
        if standardised or self.sign == "two_sided":
            mu, sigma = mean_and_deviation(background_score(train))
        if standardised:
            mu_h, sigma_h = mean_and_deviation(s_h(train))
        return lambda test: self.join((s_h(test) - mu_h) / sigma_h, background_score(test), mu, sigma)

    def join(
        self, foreground: Scores, background: Scores, mu: float | None = None, sigma: float | None = None
    ) -> Scores:
        """Eq. 7 on given S_h and S_b; `mu`, `sigma` of S_b where the branch or the sign needs them."""
        if self.sign == "two_sided":
            return foreground - np.abs(background - mu) / (sigma * self.temperature)
        towards = 1.0 if self.sign == "plus" else -1.0
        if self.resolved_branch == "softmax":
            divisor = self.temperature if self.softmax_T == "log_over_T" else 1.0
            joined = foreground + towards * guarded_log(background, self.log_guard) / divisor
            return np.where(np.isnan(joined), MOST_OOD, joined)
        if self.resolved_branch == "standardised":
            return foreground + towards * (background - mu) / (sigma * self.temperature)
        divisor = 1.0 if self.logit_combine == "none" else self.temperature
        foreground = foreground / divisor if self.logit_combine == "both_over_T" else foreground
        return foreground + towards * background / divisor


def _probability(T: float, f: np.ndarray) -> Scores:
    return np.exp(f[:, :-1].max(axis=1) / T - logsumexp(f / T, axis=1))


_OVER_ALL: dict[type, Callable[[Scorer, np.ndarray], Scores]] = {
    type(SCORERS["msp"]): lambda score, f: _probability(1.0, f),
    type(SCORERS["odin"]): lambda score, f: _probability(score.T, f),
    type(SCORERS["energy"]): lambda score, f: score.T * logsumexp(f / score.T, axis=1),
    type(SCORERS["maxlogit"]): lambda score, f: f[:, :-1].max(axis=1),
}


def mean_and_deviation(values: Scores) -> tuple[float, float]:
    """Mean and (population) standard deviation; a constant score has deviation 1, so that it says nothing rather than everything."""
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 0 else 1.0
