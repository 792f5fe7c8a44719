"""Images as files: on disk, or inside a .tar, read where they lie: ImageNet comes as one .tar a class, and need not be unpacked."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from common.data.tars import entries, read_member


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
        return read_member(self.tar, self.name, self.offset, self.size)

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.read_bytes())


File = Path | Member
# A set's images as found: one array, or files of any size
Items = UInt8[np.ndarray, "images rows cols 3"] | tuple[File, ...]


def members(tar: Path, extensions: tuple[str, ...]) -> list[Member]:
    """The files of `tar` with one of the extensions, sorted by name; hidden files and links are left out. Raises UserError for a broken archive."""
    found = [Member(tar, entry.name, entry.offset_data, entry.size) for entry in entries(tar)]
    visible = [m for m in found if m.name.lower().endswith(extensions) and not Path(m.name).name.startswith(".")]
    return sorted(visible, key=lambda member: member.name)
