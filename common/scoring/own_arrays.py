"""Features of any network, brought as an .npz: every score and metric without this suite's networks or data.

head_weight          classes x channels     the linear classifier
head_bias            classes
id_penultimate       images x channels      ID test images, after pooling
id_labels            images, 0..K-1         for the ID accuracy (optional)
ood_NAME_penultimate images x channels      one or more OOD sets
train_penultimate    images x channels      ID training images (optional; scores that need them say so)
train_labels         images, 0..K-1         (optional, likewise)
..._logits           images x classes       optional each; head_weight @ h + head_bias where missing
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import provenance
from common.cli.errors import UserError
from common.metrics import CONVENTION
from common.scorers.arrays import Features, Head
from common.scoring.sets import (
    NEVER_DONE,
    IsDone,
    Scored,
    Scores,
    accuracy,
    left_out,
    may_lack,
    score_sets,
    scorer_lines,
    scorer_names,
)


class OwnArrays:
    """The file's sets as Features. Raises UserError that names what is missing or does not fit."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(f"no features at {path}")
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = {name: file[name] for name in file.files}
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path} is not an .npz of plain arrays: {str(error).splitlines()[0]}") from error
        self.path, self.sha256 = path, hashlib.sha256(path.read_bytes()).hexdigest()
        weight, bias = self._array("head_weight", 2), self._array("head_bias", 1)
        if len(weight) != len(bias):
            raise UserError(f"{path}: head_weight has {len(weight)} classes, head_bias {len(bias)}")
        self.head = Head(weight, bias)
        self.ood = [
            name.removeprefix("ood_").removesuffix("_penultimate")
            for name in self.arrays
            if name.startswith("ood_") and name.endswith("_penultimate")
        ]
        if not self.ood:
            raise UserError(f"{path} has no array ood_NAME_penultimate; it has: {', '.join(self.arrays)}")

    def scored(self) -> Scored:
        """All sets of the file; the digests in their rows are those of the file."""
        train = self.features("train") if "train_penultimate" in self.arrays else None
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

    def _array(self, name: str, axes: int) -> np.ndarray:
        if name not in self.arrays:
            raise UserError(f"{self.path} has no array {name}; it has: {', '.join(self.arrays)}")
        array = self.arrays[name]
        if array.ndim != axes or array.dtype.kind not in "fiu":
            raise UserError(
                f"{self.path}: {name} must be numbers with {axes} axes, got {array.dtype} of shape {array.shape}"
            )
        return array.astype(np.float32) if array.dtype.kind != "f" or array.dtype.itemsize < 4 else array

    def features(self, name: str) -> Features:
        h = self._array(f"{name}_penultimate", 2)
        classes, channels = self.head.weight.shape
        if h.shape[1] != channels:
            raise UserError(f"{self.path}: {name}_penultimate has {h.shape[1]} channels, head_weight {channels}")
        given = f"{name}_logits" in self.arrays
        logits = self._array(f"{name}_logits", 2) if given else h @ self.head.weight.T + self.head.bias
        if logits.shape != (len(h), classes):
            raise UserError(
                f"{self.path}: {name}_logits must be {len(h)} x {classes}, got {' x '.join(map(str, logits.shape))}"
            )
        labels = self.arrays.get(f"{name}_labels")
        if labels is not None and (labels.shape != (len(h),) or labels.dtype.kind not in "iu"):
            raise UserError(
                f"{self.path}: {name}_labels must be {len(h)} whole numbers, got {labels.dtype} of shape {labels.shape}"
            )
        return Features(h, logits, labels)


def score(
    path: Path, names: list[str], method: str | None = None, repeats: int = 0, is_done: IsDone = NEVER_DONE
) -> tuple[Scores, str] | None:
    """Every row of a file of features, and which scores are missing; None where `is_done` says so of what decides them.

    Of "all" and "papers" the scores that need what the file does not hold are left out: what is inside a network, training images, labels.
    """
    arrays, refused = OwnArrays(path), may_lack(names)
    scored = arrays.scored()
    scorers = scorer_lines(scorer_names(names), "", method or "own features")
    lines = [list(line) for line in scorers]
    if is_done({"weights": arrays.sha256, "id_set": path.stem, "scorers": lines, "bootstrap": repeats}):
        return None
    return score_sets(scored, scored.fit(scorers, refused), repeats, refused), left_out(refused)
