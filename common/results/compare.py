"""Is one detector better than another on the same images? Paired differences with bootstrap intervals."""

from pathlib import Path

import numpy as np

from common.cli.errors import UserError, unknown


def read(word: str) -> dict[str, np.ndarray]:
    """`FILE.npz:SCORER` -> scores of each set; "id" is the ID test set. Raises UserError that names what is there."""
    name, _, scorer = word.rpartition(":")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"expected FILE.npz:SCORER with a file of --save-scores, got {word!r}")
    try:
        with np.load(path, allow_pickle=False) as file:
            scores = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a file of --save-scores: {str(error).splitlines()[0]}") from error
    found = {key.rpartition("/")[2]: values for key, values in scores.items() if key.rpartition("/")[0] == scorer}
    if not found:
        raise unknown(f"scorer of {path}", scorer, dict.fromkeys(key.rpartition("/")[0] for key in scores))
    return found
