"""Files that are whole or not there, and what they hold."""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary_path)`, flush it to disk, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, lambda part: part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n"))


def read_json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file, or not one in whole."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def sha256(path: Path) -> str:
    """Of a file's content; read again only where the file has changed since this process read it, so that waiting costs little."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
