"""Is one detector better than another on the same images? Paired differences with bootstrap intervals."""

from pathlib import Path

import numpy as np

from common.cli.arrays import read_npz
from common.cli.errors import UserError, unknown

WHAT = "a file of --save-scores"


def read(word: str) -> dict[str, np.ndarray]:
    """`FILE.npz:SCORER` -> scores of each set; "id" is the ID test set, and is there. Raises UserError that names the file and what is there."""
    name, _, scorer = word.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"expected FILE.npz:SCORER with {WHAT}, got {word!r}")
    scores = read_npz(path, WHAT)
    # The name of a set may hold slashes (folder:PATH); every scorer has the set "id".
    found = {key.removeprefix(f"{scorer}/"): values for key, values in scores.items() if key.startswith(f"{scorer}/")}
    if not found:
        raise unknown(f"scorer of {path}", scorer, [key.removesuffix("/id") for key in scores if key.endswith("/id")])
    for name, values in found.items():
        check(f"{path}: {scorer}/{name}", values)
    if "id" not in found:
        raise UserError(f"{path} holds no scores of the ID test set ({scorer}/id); it has: {', '.join(found)}")
    return found


def check(which: str, values: np.ndarray) -> None:
    """Raise UserError unless these are scores: one finite number an image."""
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not len(values):
        raise UserError(f"{which} must be one number an image, got {values.dtype} of shape {values.shape}")
    if bad := int((~np.isfinite(values)).sum()):
        raise UserError(f"{which} holds {bad} values that are NaN or infinite")
