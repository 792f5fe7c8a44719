"""Masks beside images: stored as bits with a manifest that says what they belong to.

A folder of masks holds part-00000.npz, ... (packed bits of PART images each) and manifest.json, which is written last: a folder without it is
unfinished and is gone on with. Each part names the identity (digest of network, recipe and images) it was made for; a part of another identity
is made anew, and masks whose manifest does not fit the network or the images are refused.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.cli.recipes import digest

FORMAT = "ood-backgrounds masks 1"
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
    if turn[0] == 0 and manifest.exists() and _json(manifest).get("identity") != identity:
        manifest.unlink()  # stale: from here on the folder is unfinished
    places = [(folder / f"part-{number:05}.npz", start) for number, start in enumerate(range(0, count, PART))]
    for path, start in places[turn[0] :: turn[1]]:
        if _read_part(path, identity) is None:
            made = make(torch.arange(start, min(start + PART, count)))
            _write_part(path, {"bits": pack(made.pop("masks")), **made}, identity)
    wait()
    arrays = [_read_part(path, identity) for path, _ in places]
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}


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
    }
    write_atomically(
        folder / "manifest.json", lambda part: part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    )


def read_masks(folder: Path) -> StoredMasks:
    """A whole folder of masks. Raises UserError where it is missing, unfinished, foreign or damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError(f"no masks in {folder} (no manifest.json: never made, or not finished)")
    manifest = _json(path)
    if manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a manifest of masks of this suite (expected format {FORMAT!r})")
    parts, size = [], tuple(manifest["size"])
    for number in range(-(-manifest["images"] // PART)):
        part = _read_part(folder / f"part-{number:05}.npz", manifest["identity"])
        if part is None:
            raise UserError(
                f"{folder / f'part-{number:05}.npz'} is missing, damaged, or of other masks; make the masks again"
            )
        parts.append(part["bits"])
    bits = np.concatenate(parts)
    if bits.shape != (manifest["images"], -(-size[0] * size[1] // 8)):
        raise UserError(
            f"{folder} holds {bits.shape[0]} masks of {bits.shape[1]} bytes; its manifest says {manifest['images']} of {size[0]} x {size[1]} pixels"
        )
    return StoredMasks(torch.from_numpy(bits), size, manifest)


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


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write_part(path: Path, arrays: dict[str, np.ndarray], identity: str) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, identity=np.array(identity), **arrays)

    write_atomically(path, write)


def _read_part(path: Path, identity: str) -> dict[str, np.ndarray] | None:
    """The arrays of a part, or None if it is not there, not whole, or not of this identity."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception:  # numpy and zipfile raise many kinds for a file that was cut
        return None
    return arrays if str(arrays.pop("identity", "")) == identity else None
