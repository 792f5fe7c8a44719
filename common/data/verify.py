"""Is a set on disk what its name says? Counts, sizes, checksums, every image decoded, and images it shares with the ID test set.

Where checksums are published they are compared. Everywhere else the first verification that finds no fault writes a record (SHA-256 of each
file, in ROOT/.verified/NAME.json) and every later one compares with it: a change is caught from then on, an error before it is not.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.cli.errors import UserError
from common.cli.files import read_json, read_plain, sha256, write_atomically
from common.data import formats
from common.data.datasets import load
from common.data.decoding import as_rgb
from common.data.fetch import file_md5
from common.data.folders import worker_count
from common.data.listing import formats as image_formats
from common.data.specs import Spec
from common.data.transforms import Transform, transform_from_facts

# Mean difference of neighbouring grey values over a set tells scenes shrunk without antialiasing (many edges) from crops (few). Measured:
# iSUN 28.8, MiniPlaces shrunk by nearest neighbour 23.4; 32 px crops of MiniPlaces 12.3, of the same at twice the size 5.7.
ROUGHNESS_LIMIT = 18.0
IS_SHRUNK = {"lsun_resize": True, "isun": True, "lsun_crop": False}


@dataclass
class Report:
    """What was found. `problems` empty = the set is what its name says, as far as `facts` go."""

    name: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_missing: bool = False

    @property
    def line(self) -> str:
        state = "missing" if self.is_missing else "FAILED" if self.problems else "ok"
        return f"{self.name:<20} {state:<8} {'; '.join(self.problems + self.facts)}"


@dataclass(frozen=True)
class Seen:
    """One image file as inspected; `error` where it does not decode."""

    sha256: str
    encoding: str = ""
    size: tuple[int, int] = (0, 0)
    at_id_size: str = ""  # SHA-256 of the pixels after the ID transform
    roughness: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class IdTest:
    """The ID test set's pixel hashes, for finding its images in an OOD set."""

    name: str
    transform: Transform
    hashes: frozenset[str]


def id_test(name: str, root: Path) -> IdTest:
    """Hash every image of an ID test set at its network's size."""
    images = load(name, "test", root=root)
    batches = (batch.permute(0, 2, 3, 1).contiguous().numpy() for batch in images.batches(500))
    hashes = frozenset(_pixel_hash(image) for batch in batches for image in batch)
    return IdTest(name, transform_from_facts(images.facts), hashes)


def verify(
    spec: Spec, root: Path, *, against: IdTest | None = None, record: bool = False, origin: str = "first verification"
) -> Report:
    """Check one set. `record` writes the record anew; `origin` says in it where the files came from. Nothing is raised for a faulty set."""
    report = Report(spec.name)
    place = spec.found(root)
    if place is None:
        report.is_missing = True
        report.facts.append(f"to get it: {spec.how_to_get(root)}")
        return report
    published = _check_published(spec, place, report)
    if report.problems:  # the loader would stumble over the same files
        return report
    hashes: dict[str, str] = {}
    for split in spec.counts:
        hashes |= _check_split(spec, split, root, place, against, report)
    if not hashes and not published:
        hashes = {path.name: sha256(path) for path in sorted(place.iterdir()) if path.is_file()}
    if hashes:
        report.facts.append("no published checksum of these files" if spec.md5s else "no published checksum")
        path = root / ".verified" / f"{spec.name.replace('/', '_')}.json"
        _compare_with_record(path, hashes, report, record, origin)
    return report


def _check_split(
    spec: Spec, split: str, root: Path, place: Path, against: IdTest | None, report: Report
) -> dict[str, str]:
    """Count one split and look at its images. {path below `place`: SHA-256} where they are files."""
    try:
        raw = spec.loader(root, split, {})
    except UserError as error:
        if split == "train" and isinstance(error, formats.NotThere):  # an OOD set needs none
            report.facts.append("train: not there")
        else:
            report.problems.append(str(error))
        return {}
    expected = spec.counts[split]
    if expected and len(raw) != expected:
        report.problems.append(f"{split}: {len(raw):,} images, expected {expected:,}")
    report.facts.append(f"{split}: {len(raw):,} images")
    if not isinstance(raw.items, np.ndarray):
        return _check_images(spec, raw, place, against, report)
    _check_overlap((_pixel_hash(image) for image in raw.items), spec, against, report)
    return {}


def _check_published(spec: Spec, place: Path, report: Report) -> bool:
    """Compare files that have a published MD5 of their own (archives are checked when they are fetched). True if there was one."""
    names = [name for name in spec.md5s if not name.endswith((".gz", ".tar", ".zip"))]
    if not names or place.name.endswith("-test"):  # cifar100-test is a form of its own
        return False
    there = [name for name in names if (place / name).exists()]
    wrong = [name for name in there if file_md5(place / name) != spec.md5s[name]]
    report.problems += [f"{name} differs from its published MD5 ({spec.md5_source})" for name in wrong]
    if len(there) < len(names) and spec.name != "svhn":  # SVHN's test set is complete without its training set
        report.problems.append(f"missing: {', '.join(name for name in names if name not in there)}")
    if there and not wrong:
        report.facts.append(f"{len(there)} of {len(names)} files with their published MD5 ({spec.md5_source})")
    return True


def _check_images(spec: Spec, raw: formats.Raw, place: Path, against: IdTest | None, report: Report) -> dict[str, str]:
    """Decode every image; sizes, encodings, roughness, doubles and overlap go into the report. {path below `place`: SHA-256}."""
    transform = against.transform if _is_ood(spec, against) else None
    with ThreadPoolExecutor(worker_count()) as pool:
        found = pool.map(lambda path: inspect(path, transform), raw.items)
        seen = list(tqdm(found, total=len(raw), desc=spec.name, unit=" images", leave=False))
    broken = [(name, image.error) for name, image in zip(raw.names, seen) if image.error]
    if broken:
        report.problems.append(f"{len(broken)} images do not decode, first {broken[0][0]} ({broken[0][1]})")
    good = [(name, image) for name, image in zip(raw.names, seen) if not image.error]
    _check_sizes(spec, good, report)
    report.facts.append("encoded as " + ", ".join(_counted(image.encoding for _, image in good)))
    doubles = len(good) - len({image.sha256 for _, image in good})
    if doubles:
        report.facts.append(f"{doubles} files are copies of another in the set")
    if spec.name in IS_SHRUNK and good:
        _check_roughness(spec.name, float(np.mean([image.roughness for _, image in good])), report)
    _check_overlap((image.at_id_size for _, image in good), spec, against, report)
    return {os.path.relpath(str(path), place): image.sha256 for path, image in zip(raw.items, seen)}


def inspect(path: Path, id_transform: Transform | None = None) -> Seen:
    """Decode one file to its last row. The error's text names what PIL met."""
    try:
        content = read_plain(path) if isinstance(path, Path) else path.read_bytes()
    except (OSError, UserError) as error:
        return Seen("", error=getattr(error, "strerror", None) or str(error))
    sha256 = _sha256(content)
    try:
        with Image.open(BytesIO(content), formats=image_formats()) as image:
            encoding, size, rgb = _encoding(image), image.size, as_rgb(image)
    except Exception as error:  # by format OSError, SyntaxError, ValueError, DecompressionBombError, struct.error, ...
        is_text = content and b"\0" not in content[:1024]
        return Seen(sha256, error="a text file" if is_text else f"{type(error).__name__}: {str(error)[:60]}")
    at_id_size = _pixel_hash(np.asarray(id_transform(rgb))) if id_transform else ""
    return Seen(sha256, encoding, size, at_id_size, roughness(rgb))


def _encoding(image: Image.Image) -> str:
    """ "PNG", "WEBP", ...; a JPEG with its quality where its tables are those of the usual encoder (libjpeg) at a quality."""
    if image.format != "JPEG":
        return str(image.format)
    quality = _jpeg_qualities().get(_tables(image))
    return f"JPEG q{quality}" if quality else "JPEG"


def _tables(image: Image.Image) -> tuple:
    return tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))


@cache
def _jpeg_qualities() -> dict[tuple, int]:
    """{quantisation tables: quality} of libjpeg, read off by encoding, in colour and in grey."""
    found = {}
    for quality in range(100, 0, -1):
        for mode in ("RGB", "L"):
            buffer = BytesIO()
            Image.new(mode, (8, 8)).save(buffer, "JPEG", quality=quality)
            found[_tables(Image.open(buffer))] = quality
    return found


def roughness(image: Image.Image) -> float:
    """Mean absolute difference of neighbouring grey values, 0-255; 0 for images too large to be of interest here."""
    if max(image.size) > 64 or min(image.size) < 2:
        return 0.0
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    return float((np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2)


def _check_sizes(spec: Spec, good: Sequence[tuple[str, Seen]], report: Report) -> None:
    sizes = Counter(image.size for _, image in good)
    report.facts.append(
        f"{len(sizes)} sizes, sides {min(map(min, sizes))} to {max(map(max, sizes))} px" if len(sizes) > 3
        else "size " + ", ".join(f"{width}x{height}" for width, height in sizes)
    )  # fmt: skip
    square = (spec.size_px,) * 2
    wrong = [(name, *image.size) for name, image in good if spec.size_px and image.size != square]
    if wrong:
        said = "{} images are not {}x{}, first {} ({}x{})"
        report.problems.append(said.format(len(wrong), *square, *wrong[0]))


def _check_roughness(name: str, mean: float, report: Report) -> None:
    looks_shrunk = mean >= ROUGHNESS_LIMIT
    report.facts.append(f"roughness {mean:.1f}")
    if looks_shrunk != IS_SHRUNK[name]:
        looks, other = ("shrunk scenes", "lsun_resize") if looks_shrunk else ("crops", "lsun_crop")
        limit = f"roughness {mean:.1f}, limit {ROUGHNESS_LIMIT:g}"
        report.problems.append(f"these look like {looks} ({limit}): is it {other} in {name}'s place?")


def _is_ood(spec: Spec, against: IdTest | None) -> bool:
    return against is not None and spec.role in ("ood", "id or ood") and not against.name.startswith(spec.name)


def _check_overlap(hashes: Iterable[str], spec: Spec, against: IdTest | None, report: Report) -> None:
    if _is_ood(spec, against):
        shared = [image in against.hashes for image in hashes]
        if shared:
            report.facts.append(f"{sum(shared)} of them are in {against.name}'s test set, pixel for pixel")


def _compare_with_record(path: Path, hashes: dict[str, str], report: Report, rewrite: bool, origin: str) -> None:
    if path.exists() and not rewrite:
        old = read_json(path)
        if not isinstance(old.get("files"), dict) or "origin" not in old:
            report.problems.append(f"the record {path} is damaged; --record writes it anew")
            return
        changes = {
            "changed": [name for name in hashes if name in old["files"] and old["files"][name] != hashes[name]],
            "gone": [name for name in old["files"] if name not in hashes],
            "new": [name for name in hashes if name not in old["files"]],
        }
        said = "{} files {} since the record, first {}"
        found = [said.format(len(names), kind, min(names)) for kind, names in changes.items() if names]
        report.problems += found
        report.facts += [] if found else [f"all files as recorded ({old['origin']})"]
    elif not report.problems:
        text = json.dumps({"origin": origin, "files": dict(sorted(hashes.items()))}, indent=0)
        write_atomically(path, lambda part: part.write_text(text))
        report.facts.append(f"recorded ({origin})")


def _counted(values: Iterable[str]) -> list[str]:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return [counts[0][0]]
    rest = sum(count for _, count in counts[4:])
    return [f"{value} ({count:,})" for value, count in counts[:4]] + ([f"others ({rest:,})"] if rest else [])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an RGB image's pixels, rows by columns by channels."""
    return _sha256(np.ascontiguousarray(image).tobytes())
