"""The images below a folder: files on disk, or inside a .tar, read where they lie: ImageNet comes as one .tar a class, and need not be unpacked."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from common.cli.errors import UserError
from common.data.tars import entries, read_member

SHRUNK = "shrunk.json"  # written beside the images of a smaller copy

# Photographs and renderings, as Pillow names their formats; not what it opens besides: documents, films, tables.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "PPM", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "QOI", "TGA")


@cache
def formats() -> tuple[str, ...]:
    """Those of FORMATS that the installed Pillow opens."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def extensions() -> frozenset[str]:
    """In lower case, with the dot: a file with one of them is an image."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats())


@dataclass(frozen=True, order=True)
class Member:
    """A file inside an uncompressed .tar; used like a Path where images are read."""

    tar: Path
    name: str
    offset: int  # bytes from the start of the .tar to the file's first
    size: int

    def __str__(self) -> str:
        return f"{self.tar}!{self.name}"

    def read_bytes(self) -> bytes:
        return read_member(self.tar, self.name, self.offset, self.size)


File = Path | Member
# A set's images as found: one array, or files of any size
Items = UInt8[np.ndarray, "images rows cols 3"] | tuple[File, ...]


class Listing(NamedTuple):
    """What lies below a folder, hidden files and folders left out; names are paths below it."""

    images: list[tuple[str, File]]  # sorted by name
    others: list[str]  # files whose extension is no image's
    folders: list[str]  # directly in it


def look(path: Path, classes: Sequence[str] | None = None) -> Listing:
    """All that lies below `path`. `classes`: look at these classes only, each a folder or a NAME.tar. Raises UserError for what cannot be read."""
    if classes is None:
        files, folders = _on_disk(path)
    else:
        files = [(f"{name}/{inner}", file) for name in classes for inner, file in _of_class(path, name)]
        folders = list(classes)
    visible = sorted(pair for pair in files if not pair[0].rpartition("/")[2].startswith(".") and pair[0] != SHRUNK)
    others = [name for name, _ in visible if not is_image(name)]
    return Listing([pair for pair in visible if is_image(pair[0])], others, folders)


def _of_class(path: Path, name: str) -> list[tuple[str, File]]:
    if (path / name).is_dir():  # preferred to a .tar of its name
        return _on_disk(path / name)[0]
    tar = path / f"{name}.tar"
    return [(member.name.removeprefix("./"), member) for member in members(tar)] if tar.is_file() else []


def _on_disk(path: Path) -> tuple[list[tuple[str, File]], list[str]]:
    """Every file, and the folders directly in `path`."""
    visited = list(_walk(path))
    files = [(f"{below}/{name}".lstrip("/"), path / below / name) for below, names in visited for name in names]
    return files, sorted(below for below, _ in visited if below and "/" not in below)


def is_text(name: str) -> bool:
    """False for a file's name whose bytes are no UTF-8, which no table of results can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in extensions()


def _walk(top: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder, as its path below `top`, and its files. However many links lead to a folder, it is visited once, and its parents never."""
    seen = {_place(parent) for parent in top.resolve().parents}
    todo = [top]
    while todo:
        links = []
        for start in sorted(todo):
            for where, folders, files in os.walk(start, onerror=_refuse):
                if (place := _place(where)) in seen:
                    folders.clear()
                    continue
                seen.add(place)
                folders[:] = [name for name in folders if not name.startswith(".")]
                links += [link for name in folders if (link := Path(where, name)).is_symlink()]
                yield Path(where).relative_to(top).as_posix().removeprefix("."), files
        todo = links  # after all that is no link, so that a folder goes by its own name


def _place(path: Path | str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror})")


def members(tar: Path) -> list[Member]:
    """The files inside `tar`; links are left out. Raises UserError for a broken archive."""
    return [Member(tar, entry.name, entry.offset_data, entry.size) for entry in entries(tar)]


def class_names(path: Path) -> list[str]:
    """The classes below `path`, sorted: its folders, and its .tar files by their names without ".tar"."""
    visible = [child for child in path.iterdir() if not child.name.startswith(".")]
    return sorted({child.stem if is_tar(child) else child.name for child in visible if child.is_dir() or is_tar(child)})


def is_tar(path: Path) -> bool:
    return path.suffix == ".tar" and path.is_file()


def all_files(path: Path) -> list[tuple[str, File]]:
    """Name below `path` and file of every image, also of those in .tar files that have no folder of their name beside them."""
    found = look(path)
    for name in found.others:
        tar = path / name
        if is_tar(tar) and not tar.with_suffix("").is_dir():
            inside = look(tar.parent, [tar.stem]).images
            found.images.extend(((Path(name).parent / inner).as_posix(), file) for inner, file in inside)
    return found.images
