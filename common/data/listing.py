"""The images below a folder: files on disk, or inside a .tar, read where they lie: ImageNet comes as one .tar a class, and need not be unpacked."""

import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from common.cli.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, order=True)
class Member:
    """A file inside an uncompressed .tar; used like a Path where images are opened."""

    tar: Path
    name: str
    offset: int  # bytes from the start of the .tar to the file's first
    size: int

    def __str__(self) -> str:
        return f"{self.tar}!{self.name}"

    def read_bytes(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.read_bytes())


File = Path | Member
# A set's images as found: one array, or files of any size
Items = UInt8[np.ndarray, "images rows cols 3"] | tuple[File, ...]


def is_image(name: str) -> bool:
    """By its extension alone. Hidden files (.directory, ._x.jpg) are not images."""
    path = PurePosixPath(name)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def image_files(folder: Path) -> list[str]:
    """Every image below `folder`, as sorted paths below it. Hidden folders are not looked into."""
    found = []
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(where).relative_to(folder)
        found += [(below / name).as_posix() for name in files if is_image(name)]
    return sorted(found)


def members(tar: Path) -> list[Member]:
    """The images inside `tar`, sorted by name; links are left out. Raises UserError for a broken archive."""
    try:
        with tarfile.open(tar, "r:") as archive:  # "r:": a compressed archive cannot be read at an offset
            found = [Member(tar, entry.name, entry.offset_data, entry.size) for entry in archive if entry.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{tar} is not an uncompressed, whole .tar ({error})") from None
    return sorted((member for member in found if is_image(member.name)), key=lambda member: member.name)


def class_names(path: Path) -> list[str]:
    """The classes below `path`, sorted: its folders, and its .tar files by their names without ".tar"."""
    visible = [child for child in path.iterdir() if not child.name.startswith(".")]
    folders, tars = ([child for child in visible if test(child)] for test in (Path.is_dir, is_tar))
    return sorted({child.name for child in folders} | {tar.stem for tar in tars})


def is_tar(path: Path) -> bool:
    return path.suffix == ".tar"


def class_files(path: Path, name: str) -> list[tuple[str, File]]:
    """Name below `path` and file of each image of one class: from its folder where there is one, else from its .tar."""
    if (path / name).is_dir():
        return [(f"{name}/{below}", path / name / below) for below in image_files(path / name)]
    tar = path / f"{name}.tar"
    return [(f"{name}/{member.name.removeprefix('./')}", member) for member in members(tar)] if tar.is_file() else []


def all_files(path: Path) -> list[tuple[str, File]]:
    """Name below `path` and file of every image, also of those in .tar files that have no folder of their name beside them."""
    found: list[tuple[str, File]] = [(name, path / name) for name in image_files(path)]
    for tar in sorted(path.rglob("*.tar")):
        if not tar.with_suffix("").is_dir():
            prefix = tar.parent.relative_to(path)
            found += [((prefix / name).as_posix(), file) for name, file in class_files(tar.parent, tar.stem)]
    return found
