"""Files that are whole or not there, and what they hold."""

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def part_of(path: Path) -> Path:
    """What this process writes before it is renamed to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def naming(path: Path | str, *stand_ins: Path) -> Iterator[None]:
    """An OSError that names no file, or one of `stand_ins`, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, *map(str, stand_ins)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary_path)`, flush it to disk, then rename it to `path`, or to where a link of that name leads.

    Raises OSError that names `path` where the disk refuses; what stood there stands.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    with naming(path, part):
        try:
            _written(part, write)
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _written(part: Path, write) -> None:
    try:
        write(part)
    except RuntimeError:
        # torch says "unexpected pos" of a disk that is full: a plain write says why it fails.
        with open(part, "ab") as file:
            file.write(bytes(1 << 20))
        raise


def free_name(path: Path) -> Path:
    """The first of PATH.1, PATH.2, ... that is not taken."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, lambda part: part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n"))


def read_json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file, or not one in whole. Raises OSError where it is there and cannot be read."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sha256(path: Path) -> str:
    """Of a file's content; read again only where the file has changed since this process read it, so that waiting costs little."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
