"""The forms in which sets lie on disk: CIFAR's pickles, an .npz, SVHN's .mat, folders of images. Read, not yet resized."""

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.cli.errors import UserError
from common.cli.files import read_json
from common.data.listing import SHRUNK, Items, class_names, extensions, is_tar, look
from common.data.notes import note
from common.data.packed import check_images, read_arrays

PLACES365_POOL, PLACES365_DRAW = 328_500, 10_000


class NotThere(UserError):
    """A set, or a split of it, that nobody has put in its place yet: no fault of the files that are there."""


@dataclass(frozen=True)
class Raw:
    """A set as found: `items` is one uint8 array (images, rows, columns, 3) or a tuple of paths, `names` its rows' names (paths below the folder)."""

    items: Items
    names: tuple[str, ...]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)
    unlabelled: str = ""  # why there are no labels, where a training set should have them

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: Sequence[int], **facts) -> "Raw":
        """The rows in the order given."""
        rows = [int(row) for row in rows]
        items = self.items[rows] if isinstance(self.items, np.ndarray) else tuple(self.items[row] for row in rows)
        labels = None if self.labels is None else self.labels[rows]
        names = tuple(self.names[row] for row in rows)
        return replace(self, items=items, names=names, labels=labels, facts=self.facts | facts)


def draw(names: Sequence[str], count: int, seed: int) -> list[int]:
    """The published draw: the `count` names with the smallest SHA-256 of "seed/name", in ascending row order.

    It needs no random generator, so it gives the same images under any library version, and a larger draw contains the smaller one.
    """
    if not 1 <= count <= len(names):
        raise UserError(f"cannot draw {count} of {len(names)} images")
    keys = [hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest() for name in names]
    return sorted(sorted(range(len(names)), key=keys.__getitem__)[:count])


def list_hash(names: Sequence[str]) -> str:
    """SHA-256 of the sorted names, one a line with a final newline."""
    return hashlib.sha256(os.fsencode("".join(f"{name}\n" for name in sorted(names)))).hexdigest()


def cifar(class_name: str, root: Path, split: str) -> Raw:
    """CIFAR10 or CIFAR100 through torchvision's own class, checksums included."""
    from torchvision import datasets  # slow to import, needed here only

    kind = getattr(datasets, class_name)
    try:
        data = kind(str(root), train=split == "train", download=False)
    except RuntimeError:
        place, name = root / kind.base_folder, class_name.lower()
        if not place.exists():
            raise NotThere(
                f"{name}: expected {place}, which is not there; python -m common.data fetch {name}"
            ) from None
        raise UserError(
            f"{name}: a file in {place} is missing or differs from its published MD5; python -m common.data verify {name}"
        ) from None
    return _array(data.data, data.targets, tuple(data.classes), f"{split}/")


def cifar10(root: Path, split: str, options: dict[str, int]) -> Raw:
    return cifar("CIFAR10", root, split)


def cifar100(root: Path, split: str, options: dict[str, int]) -> Raw:
    """torchvision's folder where it is, else the test set alone from cifar100-test/cifar100-test.npz (images, fine, class_names)."""
    archive = root / "cifar100-test" / "cifar100-test.npz"
    if (root / "cifar-100-python").exists() or not archive.exists():
        return cifar("CIFAR100", root, split)
    if split != "test":
        raise NotThere(f"cifar100 {split}: {archive} holds the test set only, expected {root / 'cifar-100-python'}")
    data = read_arrays(archive, ("images", "fine", "class_names"))
    check_images(archive, data["images"], data["fine"], len(data["class_names"]), 32)
    return _array(data["images"], data["fine"], tuple(str(name) for name in data["class_names"]), "test/")


def svhn(root: Path, split: str, options: dict[str, int]) -> Raw:
    """SVHN's cropped digits; the .mat says 10 where the digit is 0.

    Option n: the first n/10 of each digit in file order, what the DICE, KNN, ASH and CIDER repositories evaluate with n = 10,000.
    """
    path, count = root / "svhn" / f"{split}_32x32.mat", options.get("n")
    if not path.exists():
        raise NotThere(f"svhn: expected {path}; python -m common.data fetch svhn")
    data = read_arrays(path, ("X", "y"))
    pixels, numbered = np.moveaxis(data["X"], -1, 0), data["y"].ravel()
    check_images(path, pixels, numbered - 1, 10, 32)  # numbered from 1
    labels = numbered.astype(np.int64) % 10
    raw = _array(np.ascontiguousarray(pixels), labels, tuple(str(digit) for digit in range(10)), f"{split}/")
    if count is None:
        return raw
    if count % 10 or not 10 <= count <= 10 * np.bincount(labels, minlength=10).min():
        raise UserError(f"svhn: n must be a multiple of 10 with n/10 images of each digit there, got {count}")
    first = [np.flatnonzero(labels == digit)[: count // 10] for digit in range(10)]
    return raw.take(np.sort(np.concatenate(first)).tolist())


def places365(root: Path, split: str, options: dict[str, int]) -> Raw:
    """`draw` from the test images' file names. Folders do not count, so that it does not depend on how the archive was unpacked."""
    pool = folder(root / "places365", labelled=False)
    if len(pool) != PLACES365_POOL:
        raise UserError(
            f"places365: {len(pool):,} images below {root / 'places365'}, expected {PLACES365_POOL:,}: a draw from another pool is another draw"
        )
    names, seed = [Path(name).name for name in pool.names], options.get("seed", 0)
    rows = draw(names, options.get("n", PLACES365_DRAW), seed)
    said = f"{len(rows)} of the test images by SHA-256 of 'seed/name', seed {seed}; not the authors' list, which was never published"
    return pool.take(rows, draw=said, list_sha256=list_hash([names[row] for row in rows]))


def boxes(root: Path, split: str, options: dict[str, int]) -> Raw:
    """Images with one box each, in boxes.csv's order. Labels are CIFAR-10's; facts["boxes"]: x0, y0, x1, y1 in pixels, inclusive."""
    place = root / "tiny-imagenet-boxes"
    if not (place / "boxes.csv").is_file():
        raise UserError(f"tiny-imagenet-boxes: expected {place / 'boxes.csv'}")
    classes = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    try:
        with open(place / "boxes.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        labels = np.array([classes.index(row["cifar10_class"]) for row in rows], dtype=np.int64)
        names = tuple(f"images/{row['file']}" for row in rows)
        corners = [[int(row[key]) for key in ("x0", "y0", "x1", "y1")] for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{place / 'boxes.csv'}: expected file, cifar10_class, x0, y0, x1, y1 in each line ({error})"
        ) from None
    return Raw(tuple(place / name for name in names), names, labels, classes, {"boxes": corners})


def _array(pixels: np.ndarray, labels: list[int] | np.ndarray, classes: tuple[str, ...], prefix: str) -> Raw:
    names = tuple(f"{prefix}{row:06d}" for row in range(len(pixels)))
    return Raw(pixels, names, np.asarray(labels, dtype=np.int64), classes)


def folder(path: Path, *, classes: Sequence[str] | None = None, labelled: bool = True) -> Raw:
    """All images below `path`, and as labels the places of their class folders in sorted order (see `by_folder`).

    `classes`: read these classes only, each a folder or a NAME.tar. A folder of nothing but .tar files is one of classes too.
    Raises UserError where the folder or its images are missing.
    """
    if not path.is_dir():
        raise NotThere(f"expected a folder of images at {path}")
    visible = [child for child in path.iterdir() if not child.name.startswith(".")]
    if classes is None and visible and all(map(is_tar, visible)):
        classes = class_names(path)
    found = look(path, None if classes is None else sorted(classes))
    if found.others:
        note(
            f"{path}: {len(found.others):,} files are left out, which are no images by their extension, as {found.others[0]}"
        )
    if not found.images:
        raise UserError(f"no image below {path}; extensions looked for: {' '.join(sorted(extensions()))}")
    names, files = zip(*found.images)
    raw = Raw(files, names, facts=shrunk_facts(path))
    return by_folder(raw, found.folders) if labelled else raw


def by_folder(raw: Raw, folders: Iterable[str]) -> Raw:
    """The images numbered by the class folder that each lies in; an empty folder is a class too. Where that cannot be done, `unlabelled` says why."""
    beside = [name for name in raw.names if "/" not in name]
    classes = tuple(sorted(folders))
    if len(beside) == len(raw):
        return replace(raw, unlabelled="its images lie in one flat folder, expected a folder for each class")
    if beside:
        why = f"{beside[0]} lies beside the class folders {listed(classes)}, expected every image in one of them"
        return replace(raw, unlabelled=why, classes=classes)
    if len(classes) < 2:
        why = f"it has one class folder alone, {classes[0]}, expected two classes or more"
        return replace(raw, unlabelled=why, classes=classes)
    number = {name: k for k, name in enumerate(classes)}
    labels = np.array([number[name.partition("/")[0]] for name in raw.names], dtype=np.int64)
    return replace(raw, labels=labels, classes=classes)


def numbered_by(raw: Raw, classes: Sequence[str], name: str) -> Raw:
    """The same with labels that are places in `classes`, a checkpoint's, whatever the set's own order; a flat folder has none and stays so, with a word.

    Raises UserError unless the set has these classes and no others. A class without images needs an empty folder: one that is
    missing is more often a copy that is not whole.
    """
    if raw.labels is None and not raw.classes:
        if raw.unlabelled:
            note(f"{name} has no labels, so no accuracy is counted on it: {raw.unlabelled}")
        return raw
    expected = f"expected the checkpoint's {len(classes)}, {listed(classes)}"
    if unknown := [own for own in raw.classes if own not in classes]:
        raise UserError(f"{name} has the class {listed(unknown)}, which the checkpoint does not know; {expected}")
    if raw.labels is None:
        raise UserError(f"{name} has no labels: {raw.unlabelled}; {expected}")
    if missing := [own for own in classes if own not in raw.classes]:
        raise UserError(
            f"{name} lacks the class {listed(missing)} (one without images needs an empty folder, or its name in a list's classes.txt); {expected}"
        )
    place = np.array([classes.index(own) for own in raw.classes])
    return replace(raw, labels=place[raw.labels], classes=tuple(classes))


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def shrunk_facts(path: Path) -> dict:
    """What `python -m common.data shrink` noted in this folder or the one above, for the provenance of results. Raises UserError where that is damaged."""
    for place in (path / SHRUNK, path.parent / SHRUNK):
        if place.is_file():
            if not (noted := read_json(place)):
                raise UserError(
                    f"{place} is damaged: it says no longer how these smaller images were made; make the copy again, elsewhere"
                )
            return {"shrunk": noted}
    return {}
