"""Where a command is to write, looked at before it begins: hours of work must not end in a path that cannot be written, or in place of their input."""

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from common.cli.errors import UserError
from common.cli.files import part_of


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Raise UserError for an output that is an input, another output, a device, a folder or a dangling link, for an input or output below a file, and
    OSError, with its path, for one that the disk refuses. Nothing is left of the trial."""
    inputs = list(inputs)
    for path in inputs:  # before the outputs, which may lie beside it by default
        _folder_above(Path(os.path.abspath(path)), path)
    taken = {os.path.realpath(path): f"{path} is an input; write elsewhere" for path in inputs}
    for path in outputs:
        if path.parts and path.parts[0].startswith("~") and not os.path.exists(path.parts[0]):
            raise UserError(f"{path}: no such home folder (the shell left the ~ as it is); give the folder in full")
        if path.is_dir():
            raise UserError(f"{path} is a folder, expected the name of a file")
        if path.is_symlink() and not os.path.exists(path):
            raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there")
        if os.path.exists(path) and not path.is_file():
            raise UserError(f"{path} is a device, a pipe or a socket, expected a file")
        real = os.path.realpath(path)
        if real in taken:
            raise UserError(taken[real])
        taken[real] = f"{path} is to be written twice; give two names"
        _try(Path(real if path.is_symlink() else os.path.abspath(path)), path)


def _try(real: Path, path: Path) -> None:
    """Write a nameless file of one block where the nearest folder stands, and see whether the names that are to come fit there."""
    there = _folder_above(real, path)
    try:
        to_come = [part_of(part_of(real)).name, *real.parent.relative_to(there).parts]  # as long as any made beside it
        if max(len(os.fsencode(name)) for name in to_come) > os.pathconf(there, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _folder_above(real: Path, path: Path) -> Path:
    """The nearest one that stands."""
    there = next(folder for folder in real.parents if os.path.lexists(folder))
    if not there.is_dir():
        raise UserError(f"{path}: {there} is not a folder")
    return there
