"""TagFog's anchors: a vector for each class, made elsewhere of its description in words."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.cli.arrays import read_npz
from common.cli.errors import UserError

Anchors = Float[Tensor, "classes width"]  # of length 1
WHAT = "an .npz with anchors (classes x width), classes (their names) and source (in words), or the word random"


def random_anchors(classes: int, width: int) -> Anchors:
    """Drawn from torch's generator: at right angles to each other where there are no more classes than `width`."""
    return F.normalize(nn.init.orthogonal_(torch.empty(classes, width)), dim=1)


def read_anchors(path: Path, classes: tuple[str, ...]) -> tuple[Anchors, dict[str, Any]]:
    """The anchors of `classes`, in their order and scaled to length 1, and what is to be said of them: their digest, and their source.

    Raises UserError that names the file and the part of it, for anything but finite vectors other than zero, one for each class and no other.
    """
    found = read_npz(path, WHAT)
    if lost := [name for name in ("anchors", "classes", "source") if name not in found]:
        raise UserError(f"{path} lacks {lost[0]}; expected {WHAT}")
    rows, names, source = found["anchors"], found["classes"], found["source"]
    if names.ndim != 1 or names.dtype.kind != "U" or source.shape != () or source.dtype.kind != "U":
        raise UserError(f"{path}: classes must be a list of text and source one text, got {names.dtype} {names.shape} and {source.dtype} {source.shape}")  # fmt: skip
    place = {name: row for row, name in enumerate(names.tolist())}
    if len(place) != len(names):
        raise UserError(f"{path} names a class twice, among {len(names)}; expected {len(classes)} different ones")
    if place.keys() != set(classes):
        odd = sorted(place.keys() ^ set(classes))[0]
        said = "has no anchor of the class" if odd in classes else "has one of a class that the set has not,"
        raise UserError(f"{path} {said} {odd!r}; expected {len(classes)}: {', '.join(classes[:5])}{', ...' * (len(classes) > 5)}")  # fmt: skip
    if rows.dtype.kind != "f" or rows.ndim != 2 or len(rows) != len(names) or rows.shape[1] < 2:
        raise UserError(f"{path}: anchors must be floats, {len(names)} x width, got {rows.dtype} of shape {rows.shape}")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    if bad := [str(names[row]) for row in np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))]:
        raise UserError(f"{path}: the anchor of {bad[0]!r} must be finite and not zero")
    unit = (rows / norms[:, None])[[place[name] for name in classes]].astype(np.float32)
    sha = hashlib.sha256("\0".join(classes).encode() + unit.tobytes()).hexdigest()
    return torch.from_numpy(unit), {"anchored_by": sha, "anchors_source": str(source)}
