"""Sets that lie in one file of arrays, .npz or .mat: read whole, and checked to be images with labels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from common.cli.arrays import in_short, read_npz
from common.cli.errors import UserError


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz or a .mat. Raises UserError that names the file, and the array that is missing."""
    arrays = _read_mat(path) if path.suffix == ".mat" else read_npz(path)
    for name in names:
        if name not in arrays:
            raise UserError(f"{path} has no array {name}; it has: {', '.join(arrays)}")
    return arrays


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # slow to import, needed here only

    try:
        return {name: array for name, array in loadmat(path).items() if isinstance(array, np.ndarray)}
    except MemoryError as error:
        raise UserError(f"{path} cannot be read: a header says more than memory holds; damaged?") from error
    except Exception as error:  # scipy raises many kinds for a file that is cut or changed
        raise UserError(f"{path} is not a whole .mat ({in_short(error)})") from error


def check_images(path: Path, pixels: np.ndarray, labels: np.ndarray, classes: int, size_px: int) -> None:
    """Raise UserError unless `pixels` are images (uint8, images x rows x cols x 3) of this side, and each has a label in 0..classes-1."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size_px, size_px, 3) or not len(pixels):
        said = f"uint8, images x {size_px} x {size_px} x 3"
        raise UserError(f"{path}: expected pixels {said}, got {pixels.dtype} of shape {pixels.shape}")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: expected {len(pixels)} whole labels, got {labels.dtype} of shape {labels.shape}")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{path}: labels must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
