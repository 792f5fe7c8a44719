"""Sets by name: a split of any of them, every image through one transform."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.cli.errors import UserError, unknown
from common.data import formats
from common.data.encodings import parse_encoding, re_encoded
from common.data.folders import FolderImages, in_memory
from common.data.formats import Raw
from common.data.images import Images, balanced_subset
from common.data.specs import GENERATED, SPECS, Spec, parse, spec_of, title
from common.data.transforms import Transform

# Folders are decoded once, into memory, up to this size; larger ones are streamed. Above 64 px they always are, however few the images, because
# a resized crop for training must be cut from the file, not from the centre crop.
IN_MEMORY_BYTES, IN_MEMORY_PX = 512 << 20, 64


def load(
    name: str, split: str, *, root: Path, transform: Transform | None = None, limit: int | None = None, seed: int = 0
) -> Images | FolderImages:
    """A split of a set, every image through `transform` (default: the set's own).

    `limit` images are drawn by `seed`: classes as equal as they can be where there are labels, else `formats.draw`.
    Raises UserError for an unknown name, split or option, a missing set, a wrong count and an image that does not decode.
    """
    if limit is not None and not limit >= 1:
        raise UserError(f"limit must be >= 1, got {limit}")
    if name.startswith("shapes"):
        return _load_shapes(name, split, transform, limit)
    spec, raw = spec_of(name), read(name, split, root)
    encode = parse(name)[1].get("encode")
    is_part = limit is not None and limit < len(raw)
    if is_part:
        raw = _limited(raw, limit, seed)
    transform = transform or spec.transform
    facts = raw.facts | {
        "set": title(name),
        "split": split,
        "encoding": encode or spec.encoding,
        "transform": transform.facts(),
    }
    facts |= {"limit": limit, "limit_seed": seed} if is_part else {}
    facts["benchmark"] = spec.is_benchmark and encode is None and not is_part
    items = re_encoded(raw.items, encode) if encode else raw.items
    labels = None if raw.labels is None else torch.from_numpy(np.ascontiguousarray(raw.labels))
    is_small = transform.size_px <= IN_MEMORY_PX and len(items) * 3 * transform.size_px**2 <= IN_MEMORY_BYTES
    if isinstance(items, np.ndarray) or is_small:
        return Images(name, in_memory(items, transform), labels, classes=raw.classes, facts=facts)
    return FolderImages(name, tuple(items), raw.names, transform, labels, raw.classes, facts)


def read(name: str, split: str, root: Path) -> Raw:
    """The split as it lies on disk, its count checked, nothing resized or re-encoded."""
    spec = spec_of(name)
    if spec.name.startswith("folder:"):
        return spec.loader(root, split, {})
    if split not in spec.counts:
        hint = "; it is for localisation only and cannot be an OOD set" if spec.role == "boxes" else ""
        raise UserError(f"{spec.name} has no split {split!r}; it has {', '.join(spec.counts)}{hint}")
    options = _options(spec, parse(name)[1])
    if spec.found(root) is None:
        places = " or ".join(str(root / place) for place in spec.places or (spec.name,))
        raise UserError(f"{spec.name}: expected {places}, which is not there; to get it: {spec.how_to_get(root)}")
    raw = spec.loader(root, split, options)
    expected = 0 if "C" in options else options.get("n", spec.counts[split])
    if expected and len(raw) != expected:
        raise UserError(
            f"{spec.name} {split} has {len(raw):,} images, expected {expected:,}; see python -m common.data verify {spec.name}"
        )
    return raw


def _options(spec: Spec, given: dict[str, str]) -> dict[str, int]:
    """The whole-number options; `encode` is checked and left to `load`."""
    known = (*spec.options, "encode") if spec.size_px == 32 else spec.options
    for key, value in given.items():
        if key not in known:
            raise UserError(
                f"{spec.name} takes {'the options ' + ', '.join(known) if known else 'no option'}, got {key!r}"
            )
        if key == "encode":
            parse_encoding(value)
        elif not value.isdecimal():
            raise UserError(f"{spec.name}: {key} must be a whole number, got {value!r}")
    return {key: int(value) for key, value in given.items() if key != "encode"}


def _limited(raw: Raw, limit: int, seed: int) -> Raw:
    if raw.labels is None:
        return raw.take(formats.draw(raw.names, limit, seed))
    return raw.take(balanced_subset(torch.from_numpy(raw.labels), limit, torch.Generator().manual_seed(seed)).tolist())


def _load_shapes(name: str, split: str, transform: Transform | None, limit: int | None) -> Images:
    if name.partition(":")[0] not in GENERATED:
        raise unknown("data set", name, (*SPECS, "folder:PATH", *GENERATED))
    from common.data import shapes  # generated, and imported only when asked for

    images = shapes.load(name, split, limit)
    if transform is None or (transform.size_px,) * 2 == images.size_px:
        return images
    # Masks stay behind: they are exact only at the size they were drawn at.
    pixels = in_memory(images.pixels.permute(0, 2, 3, 1).contiguous().numpy(), transform)
    return Images(
        name, pixels, images.labels, classes=images.classes, facts=images.facts | {"transform": transform.facts()}
    )


def training_images(
    id_set: str, transform: Transform, *, root: Path, limit: int | None = None, on_corrupt: str = "stop"
) -> Images | FolderImages:
    """The ID training set. Raises UserError where it is missing or has no labels."""
    images = load(id_set, "train", root=root, transform=transform, limit=limit)
    if images.labels is None:
        raise UserError(f"{id_set} has no labels; training needs them")
    return replace(images, on_corrupt=on_corrupt) if isinstance(images, FolderImages) else images
