"""Sets by name: a split of any of them, every image through one transform."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.cli.errors import UserError, unknown
from common.data import formats
from common.data.encodings import parse_encoding, re_encoded
from common.data.folders import FolderImages, in_memory, undecodable
from common.data.formats import Raw
from common.data.images import Images, balanced_subset
from common.data.listing import is_text
from common.data.notes import note
from common.data.own import NAMES, OWN, is_undivided
from common.data.specs import GENERATED, SPECS, Spec, parse, spec_of, title
from common.data.transforms import Transform

# Folders are decoded once, into memory, up to this size; larger ones are streamed. Above 64 px they always are, however few the images, because
# a resized crop for training must be cut from the file, not from the centre crop.
IN_MEMORY_BYTES, IN_MEMORY_PX = 512 << 20, 64


def load(
    name: str, split: str, *, root: Path, transform: Transform | None = None, limit: int | None = None, seed: int = 0,
    classes: Sequence[str] | None = None, on_corrupt: str = "stop", to_train_on: bool = False, identify: bool = True,
) -> Images | FolderImages:  # fmt: skip
    """A split of a set, every image through `transform` (default: the set's own).

    `limit` images are drawn by `seed`: classes as equal as they can be where there are labels, else `formats.draw`. `classes`: a checkpoint's
    names, in whose order the labels are numbered. `on_corrupt`: "stop" at a file that does not decode, or "skip" it. Raises UserError for an
    unknown name, split or option, a missing set, a wrong count, an image that does not decode, other classes than `classes`, and where the
    set is `to_train_on` for labels that are missing and a class without images. `identify` False: nobody will ask which images they were, so
    that no content of streamed files is hashed.
    """
    if limit is not None and not limit >= 1:
        raise UserError(f"limit must be >= 1, got {limit}")
    if name.startswith("shapes"):
        return _load_shapes(name, split, transform, limit, classes)
    spec, raw = spec_of(name), read(name, split, root)
    if to_train_on:
        _check_labels(raw, name)
    if classes is not None:
        raw = formats.numbered_by(raw, classes, f"{name} {split}")
    whole = len(raw)
    if limit is not None and limit < whole:
        raw = replace(_limited(raw, limit, seed), facts=raw.facts | {"limit": limit, "limit_seed": seed})
    if on_corrupt == "skip":
        raw = _decodable(raw, f"{name} {split}")
        if to_train_on and limit is None:
            _check_labels(raw, name)  # once more: a class may have lost all its images
    facts = {"set": title(name), "split": split, "benchmark": spec.is_benchmark and len(raw) == whole}
    return _at_size(name, spec, replace(raw, facts=raw.facts | facts), transform or spec.transform, identify)


def _check_labels(raw: Raw, name: str) -> None:
    if raw.labels is None:
        raise UserError(f"{name} has no labels to train on: {raw.unlabelled or 'it comes without'}")
    if odd := [own for own in raw.classes if not is_text(own)]:
        raise UserError(
            f"{name}: the class folder {odd[0]!r} must have Unicode text as its name, for it goes into checkpoints"
        )
    count = np.bincount(raw.labels, minlength=len(raw.classes))
    if empty := [raw.classes[k] for k in np.flatnonzero(count == 0)]:
        raise UserError(f"{name} has no image to train on of the class {formats.listed(empty)}")


def _decodable(raw: Raw, name: str) -> Raw:
    """Without the files that do not decode, each named."""
    broken = {} if isinstance(raw.items, np.ndarray) else undecodable(raw.items)
    for number, error in enumerate(broken.values(), 1):
        note(f"{error}; left out of {name} ({number} of {len(raw):,} images)")
    if len(broken) == len(raw):
        raise UserError(f"{name}: no image decodes; {next(iter(broken.values()))}")
    return raw.take([row for row in range(len(raw)) if row not in broken], left_out=len(broken)) if broken else raw


def _at_size(name: str, spec: Spec, raw: Raw, transform: Transform, identify: bool) -> Images | FolderImages:
    items, facts, encode = raw.items, raw.facts, parse(name)[1].get("encode")
    if encode:
        items, facts = re_encoded(items, encode), facts | {"benchmark": False}
    facts = facts | {"encoding": encode or spec.encoding, "transform": transform.facts()}
    labels, classes = (None, ()) if raw.labels is None else (torch.from_numpy(raw.labels), raw.classes)
    is_small = transform.size_px <= IN_MEMORY_PX and len(items) * 3 * transform.size_px**2 <= IN_MEMORY_BYTES
    if isinstance(items, np.ndarray) or is_small:
        return Images(name, in_memory(items, transform), labels, classes=classes, facts=facts)
    keys = None if identify else ()
    return FolderImages(name, tuple(items), raw.names, transform, labels, classes, facts, keys=keys)


def read(name: str, split: str, root: Path) -> Raw:
    """The split as it lies on disk, its count checked, nothing resized or re-encoded."""
    spec = spec_of(name)
    if parse(name)[0] in OWN:
        return spec.loader(root, split, {})
    if split not in spec.counts:
        hint = "; it is for localisation only and cannot be an OOD set" if spec.role == "boxes" else ""
        raise UserError(f"{spec.name} has no split {split!r}; it has {', '.join(spec.counts)}{hint}")
    options = _options(parse(name)[1])
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


def _options(given: dict[str, str]) -> dict[str, int]:
    """The whole-number options (specs.spec_of has checked them); `encode` is checked and left to `load`."""
    if "encode" in given:
        parse_encoding(given["encode"])
    return {key: int(value) for key, value in given.items() if key != "encode"}


def _limited(raw: Raw, limit: int, seed: int) -> Raw:
    if raw.labels is None:
        return raw.take(formats.draw(raw.names, limit, seed))
    return raw.take(balanced_subset(torch.from_numpy(raw.labels), limit, torch.Generator().manual_seed(seed)).tolist())


def _load_shapes(
    name: str, split: str, transform: Transform | None, limit: int | None, classes: Sequence[str] | None
) -> Images:
    if name.partition(":")[0] not in GENERATED:
        raise unknown("data set", name, (*SPECS, *NAMES, *GENERATED))
    from common.data import shapes  # generated, and imported only when asked for

    images = shapes.load(name, split, limit)
    if classes is not None and tuple(classes) != images.classes:  # never an other order: the generator has but one
        own = formats.listed(images.classes)
        raise UserError(
            f"{name} has the classes {own}, expected the checkpoint's {len(classes)}, {formats.listed(classes)}"
        )
    if transform is None or (transform.size_px,) * 2 == images.size_px:
        return images
    # Masks stay behind: they are exact only at the size they were drawn at.
    pixels = in_memory(images.pixels.permute(0, 2, 3, 1).contiguous().numpy(), transform)
    return replace(images, pixels=pixels, masks=None, facts=images.facts | {"transform": transform.facts()}, digest="")


def training_images(id_set: str, transform: Transform, *, root: Path, **how) -> Images | FolderImages:
    """The ID training set; `how` and what is raised as in `load`."""
    images = load(id_set, "train", root=root, transform=transform, to_train_on=True, **how)
    if is_undivided(id_set):
        said = "train/ and test/ in a folder, or two lists, TRAIN,TEST, would keep some for that"
        note(f"{id_set} has no test split: all its images are trained on, and none are left to score; {said}")
    return images
