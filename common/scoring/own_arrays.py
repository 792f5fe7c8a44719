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

import numpy as np

from common.cli.errors import UserError
from common.scorers.arrays import Features, Head


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
        self.id = self.features("id")
        self.train = self.features("train") if "train_penultimate" in self.arrays else None

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
