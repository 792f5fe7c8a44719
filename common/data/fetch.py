"""Download and unpack: resumed, checked, atomic, and nothing written outside the set's own folder."""

import hashlib
import http.client
import lzma
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from common.cli.errors import UserError
from common.data.specs import Spec
from common.data.tars import Strict, check_end

CHUNK = 1 << 20
TIMEOUT_S = 60
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
        try:
            download(url, archive, spec.md5s.get(name))
        except UserError as error:
            raise UserError(f"{spec.name}: {error}; or put {name} at {archive} yourself and fetch again") from None
        if is_archive:
            unpack(archive, place)
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

    Raises UserError where the server fails, the transfer ends early (the part is kept) or the MD5 differs (the part is deleted).
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        # Dropbox answers with a web page unless dl=1 asks for the file.
        _transfer(url + "?dl=1" if "dropbox.com" in url and "?" not in url else url, part)
    source = target if target.exists() else part
    got = file_md5(source) if md5 else md5
    if got != md5:
        if source == part:  # what a person put there is theirs to delete
            part.unlink()
        raise UserError(f"{source.name.removesuffix('.part')} has MD5 {got}, published is {md5}")
    source.replace(target)


def _transfer(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            start = start if answer.status == 206 else 0  # 200: the server does not resume, so it sends everything
            left = _length(answer, url, start)
            total = None if left is None else start + left
            with (
                part.open("r+b" if start else "wb") as file,
                tqdm.wrapattr(answer, "read", total, initial=start, unit_scale=True, desc=part.stem) as source,
            ):
                file.seek(start)
                shutil.copyfileobj(source, file, CHUNK)
                got = file.tell() - start
    except urllib.error.HTTPError as error:
        if error.code == 416 and _total(error) == start:  # nothing left to send: the part was complete
            return
        raise UserError(f"{url} answers {error.code} {error.reason}") from None
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        raise UserError(f"{url} cannot be read ({getattr(error, 'reason', error)})") from None
    if left is not None and got < left:
        raise UserError(
            f"{url} broke off after {start + got:,} of {start + left:,} bytes; fetch again to go on from there"
        )


def _length(answer: http.client.HTTPResponse, url: str, start: int) -> int | None:
    """The bytes to come, None where the server does not say. Raises UserError for words that are no number, and for another range than asked."""
    length, sent = answer.headers.get("Content-Length"), answer.headers.get("Content-Range", "")
    if length is not None and not length.isdecimal():
        raise UserError(f"{url} states a Content-Length of {length!r}, expected a number of bytes")
    if start and not sent.startswith(f"bytes {start}-"):
        raise UserError(f"{url} sends the range {sent!r}, asked were the bytes from {start:,}")
    return None if length is None else int(length)


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


def unpack(archive: Path, place: Path) -> None:
    """Unpack a tar (any compression) or zip into the folder `place`, which appears by a rename at the end.

    A single top folder of `place`'s own name is taken off. Raises UserError where a member would leave the folder, is a link or a device.
    """
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        (_unpack_zip if zipfile.is_zipfile(archive) else _unpack_tar)(archive, part)
        inner = part / place.name
        (inner if list(part.iterdir()) == [inner] and inner.is_dir() else part).replace(place)
    except tarfile.FilterError as error:
        raise UserError(f"{archive.name}: refused {error.tarinfo.name!r} ({error})") from None
    except UserError:
        raise
    except DAMAGED as error:
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
