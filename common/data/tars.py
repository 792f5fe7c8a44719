"""Tars, to their last block: Python's reader takes a damaged header, or a file that ends between two members, for the end of the archive."""

import tarfile
from collections import Counter
from pathlib import Path

from common.cli.errors import UserError


class Strict(tarfile.TarInfo):
    """For tarfile.open: a header that cannot be read is an error wherever it stands, not the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # a block of zeros: the end
            raise
        except tarfile.HeaderError as error:
            place = archive.fileobj.tell()
            raise tarfile.ReadError(
                f"byte {place}: {error}; cut short or damaged, for the end is blocks of zeros"
            ) from error


def entries(tar: Path) -> list[tarfile.TarInfo]:
    """The plain files of an uncompressed tar. Raises UserError for one that is compressed, cut, damaged, or has two members of one name."""
    try:
        with tarfile.open(tar, "r:", tarinfo=Strict) as archive:  # a compressed one cannot be read at an offset
            found = [entry for entry in archive if entry.isfile()]
            check_end(archive)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{tar} is not an uncompressed, whole .tar ({error})") from None
    (name, times), *_ = Counter(entry.name for entry in found).most_common(1) or [("", 0)]
    if times > 1:
        raise UserError(f"{tar} holds {name} {times} times; expected one member a name")
    return found


def check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless an archive whose last member was read has its second block of zeros, and nothing but zeros behind it."""
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut short: its end is two blocks of zeros, of which one is there")
    while block:
        if any(block):
            raise tarfile.ReadError(f"something follows its end, before byte {archive.fileobj.tell()}")
        block = archive.fileobj.read(1 << 20)


def read_member(tar: Path, name: str, offset: int, size: int) -> bytes:
    """The content of a member that was listed. Raises UserError where the tar has become shorter since."""
    with open(tar, "rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise UserError(f"{tar}!{name}: {len(content)} of {size} bytes are left; the .tar was cut")
    return content
