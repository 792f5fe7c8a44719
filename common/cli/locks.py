"""Locks of the operating system: one belongs to a living process and is gone with it, however it died.

The file says who holds it, for people and for those who wait; what counts is the lock on it. On a shared file system this needs flock across nodes
(NFS 4 has it; Lustre needs the mount option flock); where there is none, that is said, and the command goes on without.
"""

import errno
import fcntl
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from common.cli.files import naming

NOT_SUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_held: dict[int, Path] = {}  # of this process, by file descriptor


def _let_go_in_child() -> None:
    """A data worker outlives a killed parent for a while: it must not hold what the parent held. (What is exec'd inherits nothing anyway.)"""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Lock:
    """The exclusive lock on the file `path`, which is there only while somebody holds it or was killed holding it."""

    def __init__(self, path: Path):
        self.path, self._file = Path(os.path.abspath(path)), None
        self._folders: list[Path] = []  # that were made for it, the innermost first

    def take(self) -> bool:
        """Whether it is ours now. Returns at once."""
        while not self._is_ours():
            self.release()
            self._folders += [folder for folder in self.path.parents if not folder.exists()]
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                if self.path.parent.exists():
                    raise
                continue  # another command, which wrote nothing there, has just taken the folder away
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    os.close(file)
                    raise
                print(
                    f"{self.path.parent}: no locks on this file system; run nothing else there meanwhile",
                    file=sys.stderr,
                )
            self._file = file
            _held[file] = self.path
        return True

    def _is_ours(self) -> bool:
        """Whether what we have locked still bears the name: who held it before us takes its file away when done, and folders are moved."""
        try:
            return self._file is not None and os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def note(self, **content: Any) -> None:
        """Say in the file who we are and what we make."""
        who = {"host": socket.gethostname(), "process": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        text = json.dumps(who | content, indent=1).encode()
        with naming(self.path):
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))

    def release(self) -> None:
        if self._file is not None:
            if self._is_ours():
                self.path.unlink()
            _held.pop(self._file, None)
            os.close(self._file)
            self._file = None
            with suppress(OSError):  # where nothing was written, nothing is left
                for folder in self._folders:
                    folder.rmdir()


def holder(path: Path) -> dict[str, Any] | None:
    """What the living process that holds a lock says of itself ({} in the moment it writes that); None where there is none, or it is this one."""
    if Path(os.path.abspath(path)) in _held.values():
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return json.loads(os.pread(file, 1 << 20, 0))
        except ValueError:
            return {}
    except OSError:
        return None
    finally:
        os.close(file)
    return None


def lock_path(path: Path) -> Path:
    """Beside what it guards, which may be moved, or not be there yet; by whatever name that is called."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock")


def named(holder: dict[str, Any]) -> str:
    return "{} process {} since {}".format(*(holder.get(key, "?") for key in ("host", "process", "since")))
