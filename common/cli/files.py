"""Files that are whole or not there, and what they hold."""

import errno
import fcntl
import functools
import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PART = re.compile(r"\.(.+)\.\d+\.part")
_swept: set[tuple[int, Path]] = set()  # (process, folder)


def no_plain_file(path: Path) -> str:
    """What stands there, if it is no plain file; empty for one, and where nothing is."""
    return (
        "a folder" if path.is_dir() else "a device, a pipe or a socket" if path.exists() and not path.is_file() else ""
    )


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


def write_atomically(path: Path, write: Callable[[Path], Any], flush: bool = True) -> None:
    """Call `write(temporary_path)`, flush it to disk, then rename it to `path`, or to where a link of that name leads.

    What killed processes left half-written in that folder is taken away. Raises OSError that names `path` where the disk refuses; what stood
    there stands. `flush`: False where a million small files are written, which a machine that loses its power may then lose.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if (os.getpid(), path.parent) not in _swept:
        _swept.add((os.getpid(), path.parent))
        sweep(path.parent)
    part = part_of(path)
    with naming(path, part):
        file = _locked(part)
        try:
            _written(part, write)
            if flush:
                os.fsync(file)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
            os.close(file)


def _locked(part: Path) -> int:
    """A part with a lock on it, which lasts as long as its writer: without one it is a dead process's."""
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):  # where a file system has no locks, nothing is taken for dead
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(part)):
                return file
        os.close(file)  # taken away before it had its lock


def sweep(folder: Path) -> None:
    """Take away the parts of files in `folder` that nobody is writing any more."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if PART.fullmatch(name):
                with suppress(OSError):
                    _unlink_dead(folder / name)


def _unlink_dead(part: Path) -> None:
    file = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its writer lives, or there are no locks
        part.unlink()
    finally:
        os.close(file)


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
        found = json.loads(read_plain(path))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_plain(path: Path) -> bytes:
    """A file's bytes. Raises OSError for a pipe, a device or a socket too, which might never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a device, a pipe or a socket, expected a file", str(path))
        return file.read()


def sha256(path: Path) -> str:
    """Of a file's content; read again only where the file has changed since this process read it, so that waiting costs little."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
