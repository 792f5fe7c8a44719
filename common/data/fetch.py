"""Download and unpack: resumed, checked, atomic, and nothing written outside the set's own folder."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from common.cli.errors import UserError
from common.data.datasets import Spec

CHUNK = 1 << 20
TIMEOUT_S = 60


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
            left = int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
            got = _append(answer, part, start, left)
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


def _append(answer: BufferedIOBase, part: Path, start: int, left: int | None) -> int:
    """Write the answer behind the first `start` bytes of `part`; the number of bytes that came."""
    got = 0
    total = None if left is None else start + left
    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
    ):
        file.seek(start)
        while block := answer.read(CHUNK):
            file.write(block)
            got += len(block)
            bar.update(len(block))
    return got


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

    A single top folder of `place`'s own name is taken off. Raises UserError where a member would leave the folder or is no plain file.
    """
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for name, content in tqdm(_members(archive), desc=f"unpack {archive.name}", unit=" files"):
            target = part / _safe(archive, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise UserError(f"{archive} does not unpack ({why}); delete it and fetch again") from None
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    tops = list(part.iterdir())
    inner = part / place.name
    if tops == [inner] and inner.is_dir():
        inner.replace(place)
        part.rmdir()
    else:
        part.replace(place)


def _safe(archive: Path, name: str) -> str:
    # A backslash or a drive letter is a path of its own on Windows.
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise UserError(f"{archive.name}: refused {name!r}, which would leave the folder")
    return "/".join(parts)


def _members(archive: Path) -> Iterator[tuple[str, BufferedIOBase]]:
    """(name, content) of the files in an archive. Links and devices are refused, folders are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if (member.external_attr >> 16) & 0o170000 == 0o120000:
                    raise UserError(f"{archive.name}: refused {member.filename!r}, which is a link")
                if not member.is_dir():
                    with opened.open(member) as content:
                        yield member.filename, content
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            if not (member.isfile() or member.isdir()):
                raise UserError(f"{archive.name}: refused {member.name!r}, which is a link or no plain file")
            if member.isfile():
                yield member.name, opened.extractfile(member)
