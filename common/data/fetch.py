"""Download and unpack: resumed, checked, atomic, and nothing written outside the set's own folder."""

import errno
import hashlib
import http.client
import lzma
import re
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from common.cli.errors import UserError
from common.cli.files import naming, read_json, write_json
from common.data.listing import is_image
from common.data.specs import Spec
from common.data.tars import Strict, check_end

CHUNK = 1 << 20
TIMEOUT_S = 60  # without a byte
WINDOW_S, SLOWEST = 60, 1000  # a minute with less than a kilobyte a second is the end
LARGEST = 20 * 10**9  # bytes of a file whose size is not known here
SIZES = {  # bytes of the files whose sizes are known for certain
    "cifar-10-python.tar.gz": 170_498_071, "cifar-100-python.tar.gz": 169_001_437, "test_32x32.mat": 64_275_384,
    "train_32x32.mat": 182_040_794, "dtd-r1.0.1.tar.gz": 625_239_812,
}  # fmt: skip
# RuntimeError: a zip that is encrypted, or packed by a method that is not known here
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, whatever was being written


def fetch(spec: Spec, root: Path) -> dict[str, str]:
    """Bring a set to `root`. {file name: what vouches for it, "" where it was there already}. Raises UserError saying what to do by hand.

    Archives are downloaded to ROOT/.downloads, checked, unpacked beside their destination, renamed into place and deleted.
    """
    if not spec.urls:
        raise UserError(f"{spec.name} cannot be downloaded: {spec.by_hand.format(root=root)}")
    origins = {}
    for url in spec.urls:
        name = file_name(url)
        place = root / (spec.places or (spec.name,))[0]
        is_archive = not name.endswith(".mat")
        if (place if is_archive else place / name).exists():
            origins[name] = ""
            continue
        archive = root / ".downloads" / name
        is_ours = not archive.exists()
        try:
            download(url, archive, spec.md5s.get(name))
        except UserError as error:
            raise UserError(f"{spec.name}: {error}; or put {name} at {archive} yourself and fetch again") from None
        if is_archive:
            try:
                unpack(archive, place, needs_image=name not in spec.md5s)
            except UserError:
                if is_ours:  # what a person put there is theirs to delete
                    archive.unlink(missing_ok=True)
                raise
            archive.unlink()
        else:
            place.mkdir(parents=True, exist_ok=True)
            archive.replace(place / name)
        origins[name] = f"MD5 as published ({spec.md5_source})" if name in spec.md5s else "no published checksum"
    return origins


def file_name(url: str) -> str:
    return PurePosixPath(url.split("?")[0]).name


def download(url: str, target: Path, md5: str | None = None) -> None:
    """`url` into `target`, going on from target.part where an earlier try broke off. A finished `target` is checked, not loaded again.

    A part is gone on with only where the server says that it is still of the same file (its ETag or date, noted in target.part.json), or where an MD5
    will tell. Raises UserError where the server fails, the transfer ends early (the part is kept), is too slow or too large, or the MD5 differs (the
    part is deleted).
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        # Dropbox answers with a web page unless dl=1 asks for the file.
        _transfer(url + "?dl=1" if "dropbox.com" in url and "?" not in url else url, part, is_checked=md5 is not None)
    source = target if target.exists() else part
    got = file_md5(source) if md5 else md5
    if got != md5:
        if source == part:  # what a person put there is theirs to delete
            _forget(part)
        raise UserError(f"{source.name.removesuffix('.part')} has MD5 {got}, published is {md5}")
    source.replace(target)
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, is_checked: bool) -> None:
    noted = read_json(_note(part))
    same_file = noted.get("url") == url and noted.get("validator")
    start = part.stat().st_size if part.exists() and (same_file or is_checked) else 0
    headers = ({"Range": f"bytes={start}-"} | ({"If-Range": same_file} if same_file else {})) if start else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
            start = (
                start if answer.status == 206 else 0
            )  # 200: the server does not resume, or the file has changed: all of it comes
            left = _length(answer, url, start, noted.get("bytes") if same_file else None)
            _refuse_size(url, file_name(url), start + (left or 0))
            if not start:
                etag = answer.headers.get("ETag", "")  # a weak one does not vouch for bytes
                validator = answer.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
                write_json(_note(part), {"url": url, "validator": validator, "bytes": left})
            got = _copy(answer, url, part, start, left)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise UserError(f"{url} answers {error.code} {error.reason}") from None
        if _total(error) != start:  # else there was nothing left to send: the part was complete
            _forget(part)
            said = f"{url} has no byte {start:,}: the file there is another one now"
            raise UserError(f"{said}; the part was taken away, fetch again") from None
        return
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        if getattr(error, "filename", None):  # of our own files
            raise
        raise UserError(f"{url} cannot be read ({getattr(error, 'reason', error)})") from None
    if left is not None and got < left:
        raise UserError(
            f"{url} broke off after {start + got:,} of {start + left:,} bytes; fetch again to go on from there"
        )


def _copy(answer: http.client.HTTPResponse, url: str, part: Path, start: int, left: int | None) -> int:
    """Bytes of the answer, put behind the first `start` of the part. Raises UserError where they come too slowly or are too many."""
    got, since, before = 0, time.monotonic(), 0
    total = None if left is None else start + left
    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(total=total, initial=start, unit_scale=True, desc=part.stem) as bar,
    ):
        file.seek(start)
        while block := answer.read1(CHUNK):
            with naming(part):
                file.write(block)
                file.flush()
            got += len(block)
            bar.update(len(block))
            if start + got > limit_bytes(file_name(url)):
                _forget(part)
                _refuse_size(url, file_name(url), start + got)
            if (passed := time.monotonic() - since) >= WINDOW_S:
                if got - before < SLOWEST * passed:
                    said = f"{url} sent {got - before:,} bytes in {passed:.0f} s"
                    raise UserError(f"{said}, which is too slow; fetch again to go on from byte {start + got:,}")
                since, before = time.monotonic(), got
    return got


def limit_bytes(name: str) -> int:
    """More than this is not the file: twice its size, where that is known."""
    return 2 * SIZES[name] if name in SIZES else LARGEST


def _refuse_size(url: str, name: str, size: int) -> None:
    if size > limit_bytes(name):
        known = f"{name} has {SIZES[name]:,}" if name in SIZES else "no set is that large"
        raise UserError(f"{url} sends {size:,} bytes or more, and {known}; nothing was kept")


def _length(answer: http.client.HTTPResponse, url: str, start: int, noted: int | None) -> int | None:
    """The bytes to come, None where the server does not say. Raises UserError for words that are no number, and for another range than asked, or of
    another file than `noted` bytes long."""
    length, sent = answer.headers.get("Content-Length"), answer.headers.get("Content-Range", "")
    if length is not None and not (length.isascii() and length.isdecimal()):
        raise UserError(f"{url} states a Content-Length of {length!r}, expected a number of bytes")
    left = None if length is None else int(length)
    if not start:
        return left
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", sent)
    if not found or int(found[1]) != start or int(found[2]) < start or left not in (None, int(found[2]) + 1 - start):
        raise UserError(f"{url} sends the range {sent!r}, asked were the bytes from {start:,}")
    if found[3] != "*" and (int(found[3]) != int(found[2]) + 1 or noted not in (None, int(found[3]))):
        said = (
            f"{url} sends the range {sent!r} of a file that had {noted:,} bytes" if noted else f"{url} sends {sent!r}"
        )
        raise UserError(f"{said}; expected all to its end: delete the part and fetch again")
    return int(found[2]) + 1 - start


def _total(error: urllib.error.HTTPError) -> int:
    """The file's size as an answer 416 states it ("bytes */1234"); -1 where it does not."""
    size = error.headers.get("Content-Range", "").rpartition("/")[2]
    return int(size) if size.isdecimal() else -1


def file_md5(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            md5.update(block)
    return md5.hexdigest()


def missing(spec: Spec, root: Path) -> list[str]:
    """The files that `fetch` would load."""
    place = root / (spec.places or (spec.name,))[0]
    names = [file_name(url) for url in spec.urls]
    return [name for name in names if not (place / name if name.endswith(".mat") else place).exists()]


def size_text(names: Iterable[str]) -> str:
    """Of files together, as a person reads it."""
    names = list(names)
    known = sum(SIZES.get(name, 0) for name in names)
    unknown = [name for name in names if name not in SIZES]
    parts = [f"{known / 1e6:,.0f} MB"] * bool(known) + [f"{len(unknown)} of a size that is not known"] * bool(unknown)
    return " and ".join(parts)


def unpack(archive: Path, place: Path, needs_image: bool = True) -> None:
    """Unpack a tar (any compression) or zip into the folder `place`, which appears by a rename at the end.

    A single top folder of `place`'s own name is taken off. Raises UserError where a member would leave the folder, is a link or a device, and where
    it `needs_image` and there is none; then nothing is left of it.
    """
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        (_unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar)(archive, part)
        if needs_image and not any(is_image(path.name) for path in part.rglob("*")):
            raise UserError(f"{archive} holds no image; nothing was kept")
        inner = part / place.name
        (inner if list(part.iterdir()) == [inner] and inner.is_dir() else part).replace(place)
    except tarfile.FilterError as error:
        raise UserError(f"{archive.name}: refused {error.tarinfo.name!r} ({error})") from None
    except UserError:
        raise
    except DAMAGED as error:
        if getattr(error, "errno", None) in FULL:
            raise OSError(error.errno, error.strerror, str(place)) from error
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise UserError(f"{archive} does not unpack ({why}); delete it and fetch again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unpack_tar(archive: Path, folder: Path) -> None:
    def plain(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        _refuse_link(archive, member.name, member.issym() or member.islnk())
        return tarfile.data_filter(member.replace(name=_inside(archive, member.name), deep=False), path)

    with tarfile.open(archive, tarinfo=Strict) as opened:
        opened.extractall(str(folder), tqdm(opened, desc=f"unpack {archive.name}", unit=" files"), filter=plain)
        check_end(opened)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in tqdm(opened.infolist(), desc=f"unpack {archive.name}", unit=" files"):
            _refuse_link(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16))
            if not member.is_dir():
                member.filename = _inside(archive, member.filename)
                opened.extract(member, folder)


def _refuse_link(archive: Path, name: str, is_link: bool) -> None:
    if is_link:
        raise UserError(f"{archive.name}: refused {name!r}, which is a link")


def _inside(archive: Path, name: str) -> str:
    """The member's name with forward slashes. The libraries cut what would leave the folder off a name and go on; such an archive is refused here."""
    path = PureWindowsPath(name)  # knows both separators, and drives
    if path.anchor or ".." in path.parts:
        raise UserError(f"{archive.name}: refused {name!r}, which would leave the folder")
    return path.as_posix()
