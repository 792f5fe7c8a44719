"""Arrays in files, checked while they are read: a .npz is a zip of .npy members, and numpy checks little of either."""

import math
import re
import zipfile
from pathlib import Path

import numpy as np

from common.cli.errors import UserError
from common.cli.files import no_plain_file

BLOCK = 1 << 20
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

CONTROL = re.compile("[\x00-\x1f\x7f]")  # in no name of ours; a space that does not break is


def read_npz(path: Path, what: str = "an .npz of plain arrays") -> dict[str, np.ndarray]:
    """The arrays of a .npz by name, each whole: checksum, header and length agree.

    Raises UserError that names the file, and the member where one is at fault: not a zip, cut, damaged, two members of one name, a member
    that is no array or holds Python objects, a header that says more or less than there is. `what` was expected, in words.
    """
    refuse_other_forms(path, what)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist()]
            if odd := [name for name in names if CONTROL.search(name)]:
                raise UserError(f"{path}: the name of a member is damaged: {ascii(odd[0])[:80]}")
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise UserError(f"{path} holds {twice[0]} {names.count(twice[0])} times; expected one array a name")
            return {
                member.filename.removesuffix(".npy"): _member(path, archive, member) for member in archive.infolist()
            }
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and struct raise many kinds for a directory that is cut or changed
        raise UserError(f"{path} is not {what}: {in_short(error)}") from error


def refuse_other_forms(path: Path, what: str) -> None:
    """Raise UserError for what is no zip to begin with: nothing there, a folder, an empty file, a lone .npy, anything else."""
    if other := no_plain_file(path):
        raise UserError(f"{path} is {other}; expected {what}")
    try:
        with open(path, "rb") as file:
            begin = file.read(6)
        is_zip = zipfile.is_zipfile(path)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected {what}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if is_zip:
        return
    if not begin:
        raise UserError(f"{path} is empty; expected {what}")
    if begin == np.lib.format.MAGIC_PREFIX:
        raise UserError(f"{path} is one array (.npy), whatever its name says; expected {what}")
    cut = "cut short: it begins as a zip and has no end" if begin[:2] == b"PK" else "no zip file"
    raise UserError(f"{path} is not {what}: {cut}")


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise UserError(f"{path}: member {member.filename} is no array (.npy)")
    try:
        with archive.open(member) as file:
            return _array(file, member.file_size)
    except Exception as error:
        raise UserError(f"{path}: member {member.filename} is damaged: {in_short(error)}") from error


def _array(file: zipfile.ZipExtFile, size: int) -> np.ndarray:
    """The array of a .npy of `size` bytes, read to its last byte, where zipfile compares the checksum."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"form {version[0]}.{version[1]} of .npy; expected 1.0 or 2.0")
    shape, by_columns, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; expected numbers or text")
    there, said = size - file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or said != there:
        raise ValueError(f"its header says {dtype} of shape {shape}, {said} bytes, and {there} follow")
    array = np.empty(math.prod(shape), dtype)
    if said:
        fill(file, memoryview(array.view(np.uint8)))
    if file.read(1):
        raise ValueError("it is longer than the archive says")
    return array.reshape(shape, order="F" if by_columns else "C")


def fill(file: zipfile.ZipExtFile, place: memoryview) -> None:
    """Read exactly as many bytes as `place` has. Raises EOFError where the file has fewer."""
    done = 0
    while done < len(place):
        block = file.read(min(BLOCK, len(place) - done))
        if not block:
            raise EOFError(f"it ends {len(place) - done} bytes too early")
        place[done : done + len(block)] = block
        done += len(block)


def in_short(error: BaseException) -> str:
    """An error of a library as the end of a line: its first line, or its kind where it says nothing."""
    text = " ".join(str(error).split())
    return f"{text[:150] or type(error).__name__}"
