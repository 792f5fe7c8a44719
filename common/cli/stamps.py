"""What made a file: a hidden JSON beside it, `.NAME.made.json`, that names a set of outputs and whoever made them.

    {"outputs": {path: sha256, null while it is being made}, "made": [{"identity", "words", "lines", "inputs": {path: sha256}, "said"}, ...]}

Several makers stand there only where a file is written row by row (results.csv). Paths are relative to the stamp's folder, so that runs can be moved.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.cli.files import read_json, sha256

Stamp = dict[str, Any]
MAKER = {"identity": str, "words": dict, "lines": list, "inputs": dict, "said": str}


def stamp_path(output: Path) -> Path:
    return output.with_name(f".{output.name}.made.json")


def read_stamp(stamp: Path) -> Stamp:
    """{} where there is none, or none that is whole."""
    found = read_json(stamp)
    is_whole = isinstance(found.get("outputs"), dict) and isinstance(found.get("made"), list)
    return found if is_whole and all(map(_is_maker, found["made"])) else {}


def _is_maker(said: Any) -> bool:
    return isinstance(said, dict) and all(isinstance(said.get(name), kind) for name, kind in MAKER.items())


def relative(paths, folder: Path) -> dict[str, Path]:
    return {os.path.relpath(path, folder): path for path in paths}


def digests(paths, folder: Path) -> dict[str, str]:
    return {name: sha256(path) for name, path in relative(paths, folder).items()}


def holds(noted: dict[str, str | None], folder: Path) -> bool:
    """Whether every file noted is there with the content noted."""
    try:
        return bool(noted) and all(sha256(folder / name) == digest for name, digest in noted.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):  # the last: no name of a file
        return False


def stamps_of(path: Path) -> list[tuple[Path, Stamp]]:
    """Folder and content of the stamps that name a file, or of all stamps in a folder."""
    folder = path if path.is_dir() else path.parent
    found = [read_stamp(stamp) for stamp in sorted(folder.glob(".*.made.json"))]
    return [(folder, stamp) for stamp in found if stamp and (path.is_dir() or path.name in stamp["outputs"])]


def is_current(path: Path, key: str | None = None) -> bool:
    """Whether a file, or a set of files in a folder, is what its stamp says, and so on back: what stands behind it may be about to be made again.

    With `key` it must have been asked for by the line of that key. Without, a file that has no stamp comes from elsewhere and must only exist.
    """
    found = stamps_of(path)
    if not found and key is None:
        return path.exists()
    return any(
        (key is None or key in maker["lines"]) and holds(stamp["outputs"], folder) and _inputs_current(maker, folder)
        for folder, stamp in found
        for maker in stamp["made"]
    )


def _inputs_current(maker: dict[str, Any], folder: Path) -> bool:
    inputs = maker["inputs"]
    return not inputs or (holds(inputs, folder) and all(is_current(folder / name) for name in inputs))


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """What differs between two identities, a recipe's fields one by one."""
    for name in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b)
        elif a != b:
            yield f"{name} {b} there, {a} here"


def line_key() -> str:
    """First 16 hexadecimal digits of the SHA-256 of this command's words, module first, each closed by a NUL: `run` in experiments/environment.sh
    makes the same of a script's line. What a line expects of its inputs is among its words, so the key holds the whole chain back."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem
    return hashlib.sha256("".join(f"{word}\0" for word in (module, *sys.argv[1:])).encode()).hexdigest()[:16]
