"""Features of any network, brought as an .npz: every score and metric without this suite's networks or data.

head_weight          classes x channels     the linear classifier
head_bias            classes
id_penultimate       images x channels      ID test images, after pooling
id_labels            images, 0..K-1         for the ID accuracy (optional)
ood_NAME_penultimate images x channels      one or more OOD sets
train_penultimate    images x channels      ID training images (optional; scores that need them say so)
train_labels         images, 0..K-1         (optional, likewise)
..._logits           images x classes       optional each; head_weight @ h + head_bias where missing

Every array is checked before a score sees one: shape against the others and the head, finite, labels in range, logits against head and features.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import provenance
from common.cli.arrays import read_npz
from common.cli.errors import UserError
from common.cli.files import sha256
from common.metrics import CONVENTION
from common.scorers.arrays import BASIC, Features, Head
from common.scorers.base import Scorer, blocks
from common.scoring.sets import (
    NEVER_DONE,
    IsDone,
    Scored,
    Scores,
    accuracy,
    kept,
    left_out,
    may_lack,
    score_sets,
    scorer_lines,
    scorer_names,
)

HIGHEST = float(np.finfo(np.float32).max)  # no network gives more, and squares of it are finite in float64
NOTED, REFUSED = (
    1e-3,
    0.05,
)  # how far logits may be from head and features, as a share of the largest: float32, bfloat16


class OwnArrays:
    """The file's sets as Features. Raises UserError that names file and array, and what is missing or does not fit."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(f"no features at {path}")
        self.path, self.arrays = path, read_npz(path)
        self.sha256 = sha256(path)
        weight, bias = self._array("head_weight", 2), self._array("head_bias", 1)
        if len(weight) != len(bias):
            raise UserError(f"{path}: head_weight has {len(weight)} classes, head_bias {len(bias)}")
        if len(weight) < 2:
            raise UserError(f"{path}: head_weight has {len(weight)} classes; expected at least 2")
        self.head = Head(weight, bias)
        ends = ("_penultimate", "_logits")
        sets = {name.removesuffix(end): None for name in self.arrays for end in ends if name.endswith(end)}
        self.ood = [name.removeprefix("ood_") for name in sets if name.startswith("ood_")]
        if not self.ood:
            raise UserError(f"{path} has no array ood_NAME_penultimate; it has: {', '.join(self.arrays)}")
        if odd := [name for name in self.ood if name in ("", "id") or "/" in name]:
            raise UserError(f"{path}: ood_{odd[0]}_penultimate: an OOD set cannot be called {odd[0]!r}")
        self._say_what_is_not_used(sets)

    def _say_what_is_not_used(self, sets: dict[str, None]) -> None:
        """A misspelt name is a score or an accuracy less: say so."""
        known = {"head_weight", "head_bias", "id_labels", "train_labels"}
        known |= {
            f"{name}_{kind}" for name in sets if name in ("id", "train") or name.startswith("ood_") for kind in BASIC
        }
        if other := [name for name in self.arrays if name not in known]:
            print(f"{self.path}: not used: {', '.join(other)}", file=sys.stderr)

    def scored(self) -> Scored:
        """All sets of the file; the digests in their rows are those of the file."""
        train = (
            self.features("train") if {"train_penultimate", "train_logits", "train_labels"} & {*self.arrays} else None
        )
        ood, id_ = {name: self.features(f"ood_{name}") for name in self.ood}, self.features("id")
        file = dict.fromkeys(
            ("checkpoint_sha256", "train_data_sha256", "id_data_sha256", "ood_data_sha256"), self.sha256
        )
        columns: dict[str, Any] = file | {
            "id_set": self.path.stem, "id_accuracy": accuracy(id_, len(self.head.bias)), "protocol": "own", "convention": CONVENTION,
            "seed": "-", "backbone": "-", "precision": str(id_.penultimate.dtype), "recipe": "-", "upstream": "-", "limit": "-", "benchmark": False,
            "commit": provenance.commit(), "versions": provenance.versions(), "device": "-",
        }  # fmt: skip
        return Scored(train, self.head, id_, ood, columns=dict.fromkeys(ood, columns))

    def features(self, name: str) -> Features:
        """One set: `id`, `train` or `ood_NAME`."""
        h = self._array(f"{name}_penultimate", 2)
        classes, channels = self.head.weight.shape
        if len(h) == 0:
            raise UserError(f"{self.path}: {name}_penultimate holds no image")
        if h.shape[1] != channels:
            raise UserError(f"{self.path}: {name}_penultimate has {h.shape[1]} channels, head_weight {channels}")
        return Features(h, self._logits(name, h), self._labels(name, len(h)))

    def _logits(self, name: str, h: np.ndarray) -> np.ndarray:
        """Those of the file, compared with what head and features give; the latter where it has none."""
        head, shape = self.head, (len(h), len(self.head.bias))
        given = self._array(f"{name}_logits", 2) if f"{name}_logits" in self.arrays else None
        if given is not None and given.shape != shape:
            sizes = (" x ".join(map(str, of)) for of in (shape, given.shape))
            raise UserError(f"{self.path}: {name}_logits must be {next(sizes)}, got {next(sizes)}")
        logits = np.empty(shape, np.result_type(h, head.weight)) if given is None else given
        worst = (0.0, "")
        for part in blocks(len(h), 8 * shape[1]):
            with np.errstate(over="ignore", invalid="ignore"):
                ours = h[part] @ head.weight.T + head.bias
            if not np.isfinite(ours).all():
                raise UserError(f"{self.path}: {name}_penultimate @ head_weight.T + head_bias is beyond {ours.dtype}")
            if given is None:
                logits[part] = ours
            else:
                worst = max(worst, _apart(given[part], ours, part.start))
        self._say_apart(name, *worst)
        return logits

    def _array(self, name: str, axes: int) -> np.ndarray:
        """Finite numbers of at least float32. Raises UserError that says which are not."""
        if name not in self.arrays:
            raise UserError(f"{self.path} has no array {name}; it has: {', '.join(self.arrays)}")
        array = self.arrays[name]
        if array.ndim != axes or array.dtype.kind not in "fiu":
            raise UserError(
                f"{self.path}: {name} must be numbers with {axes} axes, got {array.dtype} of shape {array.shape}"
            )
        for unfit, said in (
            (_not_finite, "that are NaN or infinite"),
            (_too_large, f"beyond {HIGHEST:.1e}, which no network gives"),
        ):
            found = [
                np.argwhere(unfit(array[part])) + [part.start, 0][:axes]
                for part in blocks(len(array), array[:1].nbytes)
            ]
            if places := [place.tolist() for of in found for place in of[:1]]:
                count = sum(map(len, found))
                raise UserError(f"{self.path}: {name} holds {count} values {said}, the first at {places[0]}")
        exact = array.dtype in (np.float32, np.float64)
        return array if exact else array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)

    def _labels(self, name: str, count: int) -> np.ndarray | None:
        """Of ID images; OOD images have no class of these."""
        labels, classes = self.arrays.get(f"{name}_labels"), len(self.head.bias)
        if labels is None or name.startswith("ood_"):
            return None
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            said = f"{count} whole numbers, got {labels.dtype} of shape {labels.shape}"
            raise UserError(f"{self.path}: {name}_labels must be {said}")
        low, high = int(labels.min()), int(labels.max())
        if not 0 <= low <= high < classes:
            hint = "; counted from one?" if (low, high) == (1, classes) else ""
            raise UserError(f"{self.path}: {name}_labels must be in 0..{classes - 1}, got {low}..{high}{hint}")
        return labels.astype(np.int64)

    def _say_apart(self, name: str, share: float, where: str) -> None:
        """Where logits are not those of head and features, beyond rounding: a word on stderr, or UserError where it cannot be rounding."""
        said = f"{self.path}: {name}_logits is not {name}_penultimate @ head_weight.T + head_bias: {where}"
        if share > REFUSED:
            raise UserError(f"{said}; they must be of one network, with the images in one order")
        if share > NOTED:
            print(f"{said}; scores take what they need of both", file=sys.stderr)

    def check_able(self, scorer: Scorer) -> None:
        """Raise UserError that says why, where a score cannot be made of this file."""
        if inside := sorted({*scorer.needs, *scorer.train_needs} - {*BASIC, "labels"}):
            raise UserError(f"it looks inside a network: {', '.join(inside)}")
        wanted = ["train_penultimate"] * bool(scorer.train_needs) + ["train_labels"] * ("labels" in scorer.train_needs)
        if lost := [name for name in wanted if name not in self.arrays]:
            raise UserError(f"{self.path.name} has no {' and no '.join(lost)}")


def _not_finite(values: np.ndarray) -> np.ndarray:
    return ~np.isfinite(values)


def _too_large(values: np.ndarray) -> np.ndarray:
    return np.abs(values.astype(np.float64)) > HIGHEST


def _apart(given: np.ndarray, ours: np.ndarray, first_row: int) -> tuple[float, str]:
    """The largest difference as a share of the largest logit of these rows, and where and how much it is."""
    apart = np.abs(given.astype(np.float64) - ours)
    row, column = np.unravel_index(apart.argmax(), apart.shape)
    highest = max(float(np.abs(given).max()), float(np.abs(ours).max()))
    numbers = f"{given[row, column]:.4g} and {ours[row, column]:.4g} at [{first_row + row}, {column}]"
    return (float(apart[row, column] / highest) if highest else 0.0), numbers


def score(
    path: Path, names: list[str], method: str | None = None, repeats: int = 0, is_done: IsDone = NEVER_DONE
) -> tuple[Scores, str] | None:
    """Every row of a file of features, and which scores are missing; None where `is_done` says so of what decides them.

    Of "all" and "papers" the scores that need what the file does not hold are left out: what is inside a network, training images, labels.
    """
    arrays, refused = OwnArrays(path), may_lack(names)
    scored = arrays.scored()
    scorers = scorer_lines(scorer_names(names), "", method or "own features")
    able = {line: scorers[line] for line, _ in kept(scorers, arrays.check_able, refused)}
    lines = [list(line) for line in scorers]
    if is_done({"weights": arrays.sha256, "id_set": path.stem, "scorers": lines, "bootstrap": repeats}):
        return None
    try:
        return score_sets(scored, scored.fit(able, refused), repeats, refused), left_out(refused)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
