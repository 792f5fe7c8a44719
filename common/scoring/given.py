"""Images as people give them: a set's name, a folder, files, arrays, tensors; all come out as what `features.batches` reads."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from common import data
from common.cli.errors import UserError
from common.data.folders import FolderImages, in_memory
from common.data.images import Images
from common.data.own import OWN
from common.data.specs import GENERATED, SPECS
from common.data.transforms import Transform

WANTED = (
    "a data set's name, a folder, image files, a uint8 array N x H x W x 3 or a float tensor N x 3 x H x W in [0, 1]"
)


@dataclass(frozen=True)
class Floats:
    """Images that were given as floats in [0, 1], of the network's size; used like `Images`."""

    name: str
    pixels: Float[Tensor, "images 3 height width"]
    labels: Int64[Tensor, " images"] | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.pixels.cpu().contiguous().numpy().tobytes()).hexdigest()

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        return (part.clone() for part in self.pixels.split(batch_size))  # what is passed may be asked for its gradient


def images_of(
    given: Any, transform: Transform, *, root: Path, split: str = "test", labels: Any = None,
    classes: Sequence[str] | None = None, limit: int | None = None, identify: bool = True,
) -> Images | FolderImages | Floats:  # fmt: skip
    """The images, each through `transform`; floats must have the size already. `classes`: number the labels in their order; None: without labels.

    A name or folder that has splits gives its `split`. `labels`: of arrays, tensors and files, one of 0..K-1 an image. `identify`: as in `data.load`.
    Raises UserError that says what was given and what was expected.
    """
    if isinstance(given, (str, os.PathLike)) and not Path(given).is_file():
        if labels is not None:
            raise UserError(f"labels are given beside {given}, which has its own or none")
        found = data.load(
            _named(given), split, root=root, transform=transform, limit=limit, classes=classes, identify=identify
        )
        return found if classes is not None or found.labels is None else replace(found, labels=None)
    found = _images(given, transform, None if identify else ())
    if len(found) == 0:
        raise UserError("there are no images")
    if limit is not None:
        raise UserError("limit is for sets by name and for folders; give fewer images")
    return found if labels is None or classes is None else replace(found, labels=_labels(labels, len(found), classes))


def _named(given: str | os.PathLike) -> str:
    """The name of a set: its own, or that of a folder."""
    name = os.fspath(given)
    known = isinstance(given, str) and name.partition(":")[0] in (*SPECS, *GENERATED, *OWN)
    if not known and not Path(given).is_dir():
        raise UserError(f"{name!r} is no file, no folder and no known set (python -m common.data list)")
    return name if known else f"folder:{name}"


def _images(given: Any, transform: Transform, keys: tuple | None) -> Images | FolderImages | Floats:
    if isinstance(given, (Images, FolderImages)):
        if given.size_px != (transform.size_px,) * 2:
            size = " x ".join(map(str, given.size_px))
            raise UserError(f"{given.name} has images of {size}, the network's are of {transform.size_px}")
        return replace(given, labels=None)
    if isinstance(given, np.ndarray):
        return _of_array(given, transform)
    if isinstance(given, Tensor):
        return _of_tensor(given, transform)
    if isinstance(given, (str, os.PathLike)):
        given = [given]
    if isinstance(given, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in given):
        paths = tuple(Path(one) for one in given)
        if missing := [path for path in paths if not path.is_file()]:
            raise UserError(f"no image at {missing[0]}")
        return FolderImages("files", paths, tuple(map(str, paths)), transform, keys=keys)
    raise UserError(f"images must be {WANTED}, got {type(given).__name__}")


def _of_array(array: np.ndarray, transform: Transform) -> Images:
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
        raise UserError(f"an array of images must be uint8, N x H x W x 3, got {array.dtype} of shape {array.shape}")
    return Images("array", in_memory(array, transform))


def _of_tensor(tensor: Tensor, transform: Transform) -> Images | Floats:
    said = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
    if tensor.ndim != 4 or tensor.shape[1] != 3:
        raise UserError(f"a tensor of images must be N x 3 x H x W, got {said}")
    if tensor.dtype == torch.uint8:
        return Images("tensor", in_memory(tensor.cpu().permute(0, 2, 3, 1).contiguous().numpy(), transform))
    if not tensor.is_floating_point():
        raise UserError(f"a tensor of images must be floats in [0, 1] or uint8, got {said}")
    if tuple(tensor.shape[2:]) != (transform.size_px,) * 2:
        raise UserError(
            f"floats are not resized: expected N x 3 x {transform.size_px} x {transform.size_px}, got {said}"
        )
    pixels = tensor.detach().float()
    if len(pixels) and not (0 <= pixels.min() and pixels.max() <= 1):  # NaN too
        raise UserError(
            f"a tensor of images must be in [0, 1], not normalised and without NaN,"
            f" got {pixels.min():g} to {pixels.max():g}"
        )
    return Floats("tensor", pixels)


def _labels(labels: Any, count: int, classes: Sequence[str]) -> Tensor:
    found = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise UserError(f"labels must be {count} whole numbers, got {found.dtype} of shape {found.shape}")
    if not 0 <= found.min() <= found.max() < len(classes):
        raise UserError(f"labels must be in 0..{len(classes) - 1}, got {found.min()}..{found.max()}")
    return torch.from_numpy(found.astype(np.int64))
