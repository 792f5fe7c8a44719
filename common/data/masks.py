"""Masks beside images: stored as bits with a manifest that says what they belong to.

A folder of masks holds part-00000.npz, ... (packed bits of PART images each) and manifest.json, which is written last: a folder without it is
unfinished and is gone on with. Each part names the identity (digest of network, recipe and images) it was made for and its number; another part
is made anew, with a word on stderr. The manifest carries digests of its parts and of itself: what differs is refused, and so are masks that do
not fit the network or the images.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from common.cli.arrays import read_npz
from common.cli.errors import UserError
from common.cli.files import read_json, read_plain, sha256, write_atomically, write_json
from common.cli.recipes import digest

FORMAT = "ood-backgrounds masks 2"
OLDER = "ood-backgrounds masks 1"  # without digests of the parts
NEEDS: dict[str, type | tuple[type, ...]] = {  # what a manifest says, whatever else
    "identity": str, "images": int, "size": list, "counts": dict, "parts": list, "sha256": str,
    "checkpoint_sha256": str, "data": str, "data_sha256": str, "classes": int, "transform": dict, "recipe": dict,
}  # fmt: skip
OWN = (
    "format",
    "identity",
    "images",
    "size",
    "counts",
    "parts",
    "sha256",
)  # the others are the facts behind the identity
IGNORE = -100  # padding in a segmentation
PART = 4096  # images a file

# --- storage -----------------------------------------------------------------------------------------------------------------------------


def pack(masks: Bool[np.ndarray, "images height width"]) -> UInt8[np.ndarray, "images bytes"]:
    """One bit a pixel, row by row, first pixel in the highest bit; each image begins a new byte."""
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


@dataclass(frozen=True)
class StoredMasks:
    """Binary masks of a data set, True = foreground, kept as bits on any device."""

    bits: UInt8[Tensor, "images bytes"]
    size: tuple[int, int]
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.bits)

    def to(self, device: torch.device | str) -> "StoredMasks":
        return StoredMasks(self.bits.to(device), self.size, self.manifest)

    def rows(self, index: Int64[Tensor, " chosen"]) -> Bool[Tensor, "chosen height width"]:
        """The masks of some images, on the bits' device."""
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.bits.device)
        chosen = self.bits[index.to(self.bits.device)]
        height, width = self.size
        return ((chosen[:, :, None] >> shifts) & 1).bool().flatten(1)[:, : height * width].view(-1, height, width)

    @property
    def digest(self) -> str:
        return self.manifest["identity"]


def make_masks(
    folder: Path,
    facts: dict[str, Any],
    count: int,
    size: tuple[int, int],
    make: Callable[[Tensor], dict[str, np.ndarray]],
    turn: tuple[int, int] = (0, 1),
    wait: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Write a folder of masks and return what was made: "bits", and one array for each other number an image.

    `turn` (rank, world): of several processes each makes every world-th part, and `wait` returns when all have. `facts` are plain values that say what the masks are made of (network, recipe, images). `make(rows)` returns "masks" (images x height x
    width) and other arrays, one entry a row. Parts that are there for the same facts are not made again. The manifest is the caller's last step.
    """
    identity = digest(facts, count, list(size))
    manifest = folder / "manifest.json"
    if turn[0] == 0 and manifest.exists() and read_json(manifest).get("identity") != identity:
        manifest.unlink()  # stale: from here on the folder is unfinished
    places = _places(folder, count)
    for number, (path, rows) in list(enumerate(places))[turn[0] :: turn[1]]:
        if _read_part(path, identity, number, len(rows), size) is None:
            made = make(torch.arange(rows.start, rows.stop))
            _write_part(path, {"bits": pack(made.pop("masks")), **made}, identity, number)
    wait()
    arrays = [_read_part(path, identity, number, len(rows), size) for number, (path, rows) in enumerate(places)]
    if lost := [str(path) for (path, _), part in zip(places, arrays) if part is None]:
        raise UserError(f"{lost[0]} was made, and is not there or damaged; make the masks again")
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}


def _places(folder: Path, count: int) -> list[tuple[Path, range]]:
    """Each part and its rows."""
    starts = range(0, count, PART)
    return [(folder / f"part-{n:05}.npz", range(start, min(start + PART, count))) for n, start in enumerate(starts)]


def write_manifest(
    folder: Path, facts: dict[str, Any], count: int, size: tuple[int, int], counts: dict[str, Any]
) -> None:
    """The last step: from now on the folder is whole."""
    content = {
        "format": FORMAT,
        "identity": digest(facts, count, list(size)),
        "images": count,
        "size": list(size),
        **facts,
        "counts": counts,
        "parts": [sha256(path) for path, _ in _places(folder, count)],
    }
    write_json(folder / "manifest.json", content | {"sha256": digest(content)})


def read_manifest(path: Path) -> dict[str, Any]:
    """What masks are of and how good, as it was written. Raises UserError for another file, one that was changed, and one that lacks a part."""
    try:
        content = json.loads(read_plain(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        line, reason = getattr(error, "lineno", 1), getattr(error, "msg", type(error).__name__)
        raise UserError(f"{path}, line {line}: not a whole manifest in JSON ({reason})") from None
    if isinstance(content, dict) and content.get("format") == OLDER:
        raise UserError(
            f"{path} is of older masks, whose parts have no digests; make the masks again, by the same command"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a manifest of masks of this suite (expected format {FORMAT!r})")
    for name, kind in NEEDS.items():
        if not isinstance(content.get(name), kind):
            raise UserError(f"{path}: expected {name!r}, a {kind.__name__}, got {content.get(name)!r}")
    said = {name: value for name, value in content.items() if name != "sha256"}
    facts = {name: value for name, value in content.items() if name not in OWN}
    if content["sha256"] != digest(said) or content["identity"] != digest(facts, content["images"], content["size"]):
        raise UserError(f"{path} was changed after it was written (the SHA-256 differs); make the masks again")
    return content


def read_masks(folder: Path) -> StoredMasks:
    """A whole folder of masks. Raises UserError where it is missing, unfinished, foreign or damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"no masks in {folder} (no manifest.json: never made, or not finished)")
    manifest = read_manifest(path)
    bits, size, identity, damaged = [], tuple(manifest["size"]), manifest["identity"], damaged_parts(folder, manifest)
    for number, (place, rows) in enumerate(_places(folder, manifest["images"])):
        if not place.is_file():
            raise UserError(f"{place} is missing; make the masks again")
        part = None if place in damaged else _read_part(place, identity, number, len(rows), size)
        if part is None:
            raise UserError(f"{place} is damaged, or of other masks than {path} says; make the masks again")
        bits.append(part["bits"])
    return StoredMasks(torch.from_numpy(np.concatenate(bits)), size, manifest)


def damaged_parts(folder: Path, manifest: dict[str, Any]) -> list[Path]:
    """The parts that are there and whose bytes are not those that the manifest was written of."""
    places = [place for place, _ in _places(folder, manifest["images"])]
    digests = dict(zip(places, manifest["parts"], strict=False))
    return [place for place in places if place.is_file() and sha256(place) != digests.get(place)]


def check_masks(masks: StoredMasks, images: Any, checkpoint_sha256: str, classes: int) -> None:
    """Raise UserError unless the masks were made by this network for these images."""
    manifest = masks.manifest
    if manifest["classes"] != classes:
        raise UserError(f"the masks are of {manifest['classes']} classes, the network has {classes}")
    if manifest["data_sha256"] != images.digest:
        raise UserError(
            f"the masks are of other images ({manifest['data']}, {len(masks)} images, {manifest['data_sha256'][:12]}) than {images.name}, {len(images)} images, {images.digest[:12]}"
        )
    if manifest["checkpoint_sha256"] != checkpoint_sha256:
        raise UserError(
            f"the masks were made by another network ({manifest['checkpoint_sha256'][:12]}) than this checkpoint ({checkpoint_sha256[:12]})"
        )
    if masks.size != tuple(images.size_px):
        raise UserError(
            f"the masks are {masks.size[0]} x {masks.size[1]} pixels, the images {images.size_px[0]} x {images.size_px[1]}"
        )


def true_masks(images: Any) -> StoredMasks:
    """A set's own masks in the stored form. Raises UserError where there is no truth."""
    if getattr(images, "masks", None) is None:
        raise UserError(f"{images.name} has no true masks; the generated benchmark (shapes) has")
    return StoredMasks(
        torch.from_numpy(pack(images.masks.cpu().numpy())),
        tuple(images.size_px),
        {"identity": f"truth {images.digest}", "recipe": {"pixel_labels": "truth"}, "counts": {}},
    )


def _named(identity: str, number: int) -> str:
    return f"{identity} part {number}"


def _write_part(path: Path, arrays: dict[str, np.ndarray], identity: str, number: int) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, identity=np.array(_named(identity, number)), **arrays)

    write_atomically(path, write)


def _read_part(
    path: Path, identity: str, number: int, rows: int, size: tuple[int, int]
) -> dict[str, np.ndarray] | None:
    """The arrays of a part, or None if it is not there, or, with a word on stderr, not whole or not that of this identity and number."""
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
        is_it = str(arrays.pop("identity", "")) == _named(identity, number)
        fits = is_it and arrays["bits"].shape == (rows, -(-size[0] * size[1] // 8)) and arrays["bits"].dtype == np.uint8
        if fits and all(len(array) == rows for array in arrays.values()):
            return arrays
        reason = "it lacks rows" if is_it else "it is of other masks"
    except (UserError, KeyError, TypeError) as error:
        reason = str(error).removeprefix(f"{path}").removeprefix(":").strip()
    print(f"{path}: not the part that belongs here ({reason})", file=sys.stderr)
    return None
