"""Sets times scores gives rows: the one place where they meet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common import data
from common.cli.arrays import read_npz
from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.metrics import INTERVALS, auroc, bootstrap, fpr_at_tpr, summary
from common.scorers import ALL, canonical
from common.scorers.arrays import Features, Head
from common.scorers.base import Score, Scorer

PAPER_SCORERS = (  # the post-hoc rows of both papers' tables
    "msp", "maxlogit", "odin", "odin-dfb", "mahalanobis", "energy", "vim", "klm", "dice", "react", "dice+react", "featurenorm", "line", "masf",
)  # fmt: skip


IsDone = Callable[
    [dict[str, Any]], bool
]  # asked with what decides the rows, once the data are there (common.cli.steps)
NEVER_DONE: IsDone = lambda identity: False  # noqa: E731


class Line(NamedTuple):
    """What rows call a score: the method whose network it is of, the score's name, and its hyper-parameters in words."""

    method: str
    scorer: str
    options: str


@dataclass(frozen=True)
class Scored:
    """What is scored, as arrays: features of each set under one network, and its head.

    `train`: of the ID training images, None where no score looks at them. `images`: the test sets themselves, where there are any.
    `columns`: what the rows of an OOD set say beyond score and numbers, above all their provenance.
    """

    train: Features | None
    head: Head
    id: Features
    ood: dict[str, Features]
    images: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fit(self, scorers: dict[Line, Scorer], refused: dict[Line, str] | None = None) -> dict[Line, Score]:
        """Scores that can be computed. One that cannot be fitted to these features is put into `refused`, with the reason, and loses only itself;
        without `refused` it raises UserError."""
        return dict(kept(scorers, lambda scorer: scorer.fit(self.train, self.head), refused))


class Scores(NamedTuple):
    """Rows, and the raw scores behind them by (method, scorer, set), where "id" is the ID test set."""

    rows: list[dict[str, Any]]
    raw: dict[tuple[str, str, str], np.ndarray]

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(self.rows + other.rows, self.raw | other.raw)


def score_sets(
    scored: Scored, functions: dict[Line, Score], repeats: int = 0, refused: dict[Line, str] | None = None
) -> Scores:
    """A row for each OOD set and score, sets outermost. `repeats`: redraws of the test images for 95 % intervals; 0 gives none. `refused`: as
    in `Scored.fit`, of a score that gives no number for some images."""
    sets = {"id": scored.id} | scored.ood
    of = {line: partial(_on_sets, line, function, sets) for line, function in functions.items()}
    found = dict(kept(of, lambda score: score(), refused))
    if not found:
        raise UserError(f"no score can be computed: {next(iter((refused or {}).values()), 'none was given')}")
    rows = []
    for name, features in scored.ood.items():
        of_set = {"ood_set": name, "n_id": len(scored.id), "n_ood": len(features)} | scored.columns.get(name, {})
        for line, raw in found.items():
            numbers = summary(raw["id"], raw[name]) | intervals(raw["id"], raw[name], repeats)
            rows.append(of_set | line._asdict() | numbers)
    raw = {(line.method, line.scorer, name): scores for line, of in found.items() for name, scores in of.items()}
    return Scores(rows, raw)


def kept(
    of: dict[Line, Any], attempt: Callable[[Any], Any], refused: dict[Line, str] | None
) -> Iterable[tuple[Line, Any]]:
    """What `attempt` gives for each; a UserError goes into `refused`, where there is one."""
    for line, one in of.items():
        try:
            yield line, attempt(one)
        except (UserError, np.linalg.LinAlgError) as error:
            text = str(error)
            if refused is None:
                raise UserError(text if line.scorer in text else f"{line.scorer} cannot be computed: {text}") from error
            refused[line] = text


def left_out(refused: dict[Line, str] | None) -> str:
    """Which scores are missing and why, a line each."""
    return "".join(f"\nleft out: {line.method} {line.scorer} ({reason})" for line, reason in (refused or {}).items())


def _on_sets(line: Line, function: Score, sets: dict[str, Features]) -> dict[str, np.ndarray]:
    """The scores of each set. What is wrong with one, or with them, names score and set."""
    found = {}
    for name, features in sets.items():
        try:
            found[name] = function(features)
        except UserError as error:
            raise UserError(f"{line.scorer} on {name}: {error}") from error
    return found


def intervals(id_scores: np.ndarray, scores: np.ndarray, repeats: int) -> dict[str, float]:
    """95 % intervals of FPR95 and AUROC by the names of their columns; none for 0 repeats."""
    if not repeats:
        return {}
    found = [bootstrap(id_scores, scores, metric, repeats) for metric in (fpr_at_tpr, auroc)]
    return dict(zip(INTERVALS, (end for interval in found for end in interval), strict=True))


def accuracy(features: Features, classes: int) -> float:
    """Share of images whose largest of the first `classes` logits is their label's; NaN without labels."""
    if features.labels is None:
        return float("nan")
    return float((features.logits[:, :classes].argmax(1) == features.labels).mean())


def scorer_lines(names: Iterable[str], id_set: str, method: str) -> dict[Line, Scorer]:
    """The scorers by name, each with its authors' settings for this ID set."""
    found = {name: canonical(name, id_set) for name in names}
    return {Line(method, name, repr(scorer)): scorer for name, scorer in found.items()}


GROUPS = {"all": tuple(ALL), "papers": PAPER_SCORERS}  # all: one setting a method


def scorer_names(given: Iterable[str]) -> list[str]:
    """`all` and `papers` spelled out. A score that is named too takes the place of theirs: `all vim:D=16`."""
    given = list(given)
    named = {name.partition(":")[0]: name for name in given if name not in GROUPS}
    spelled = [named.get(one, one) for name in given for one in GROUPS.get(name, (name,))]
    return list(dict.fromkeys(spelled))


def may_lack(given: Iterable[str]) -> dict[Line, str] | None:
    """`refused` of `Scored.fit` and `score_sets`: with `all` and `papers` a score may be missing; where all were asked for by name, none may."""
    return {} if any(name in GROUPS for name in given) else None


def ood_names(given: list[str] | None, id_set: str) -> list[str]:
    """The OOD sets to score. Raises UserError for one that cannot be OOD here, or where none is given and the ID set has none of its own."""
    if given is None:
        if not id_set.startswith("shapes"):
            raise UserError(f"--ood is required for {id_set}; known sets: python -m common.data list")
        options = id_set.partition(":")[1] + id_set.partition(":")[2]
        given = [name + options for name in ("shapes-objects", "shapes-textures", "shapes-noise", "shapes-backgrounds")]
    sets: dict[str, str] = {}
    for name in data.expand(given):
        data.check_ood(name, id_set)
        sets.setdefault(data.place(name), data.canonical(name))  # a set that is named twice is one set
    return list(sets.values())


def save_scores(path: Path, raw: dict[str, np.ndarray], keep: bool = False) -> None:
    """Raw scores as .npz, by `scorer/set` or `method/scorer/set`. `keep`: beside those that the file has under other names."""
    if keep and path.is_file():
        raw = read_npz(path, "a file of raw scores") | raw

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **raw)

    write_atomically(path, write)
