"""Somebody's own images, `folder:PATH` and `list:FILE`: what such a name says, and where its splits lie."""

from dataclasses import replace
from pathlib import Path

from common.cli.arrays import CONTROL
from common.cli.errors import UserError
from common.data import formats, lists
from common.data.formats import NotThere, Raw
from common.data.listing import is_text
from common.data.notes import note

OWN = ("folder", "list")
NAMES = ("folder:PATH", "list:FILE")
SPLITS = {"train": ("train",), "test": ("test", "val")}  # the folders, or lists, of a split, the first that is there
LIKE_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}  # in any capitals
ROOT = ":root="


def parse_own(base: str, rest: str) -> dict[str, str]:
    """What follows `folder:` or `list:`, in one spelling: the path whole under "path", of a list also the "root" of its images, where it is given."""
    path, _, root = rest.rpartition(ROOT) if base == "list" and ROOT in rest else (rest, "", "")
    if not path or (ROOT in rest and base == "list" and not root):
        example = "folder:my/images" if base == "folder" else "list:my/images.txt or list:my/images.txt:root=my/images"
        raise UserError(f"{base}: needs a path, as in {example}")
    if not is_text(rest) or CONTROL.search(rest):
        said = "Unicode text in one line, for it names rows of results"
        raise UserError(f"the path of a set must be {said}; got {rest!r}")
    if base == "folder":
        return {"path": str(Path(path))}
    plain = ",".join(str(Path(part)) for part in path.split(",")) if all(path.split(",")) else path
    return {"path": plain} | ({"root": str(Path(root))} if root else {})


def spelled(base: str, options: dict[str, str]) -> str:
    """The name that `parse_own` reads so."""
    return f"{base}:{options['path']}" + (ROOT + options["root"] if "root" in options else "")


def place_of(base: str, options: dict[str, str]) -> str:
    """What a name leads to: two names of one folder, or of one list of the same images, have one."""
    if base == "folder":
        return str(_whole(options["path"]).resolve())
    return ",".join(_place(path, options) for path in lists_of(options["path"]).values())


def part_of(base: str, options: dict[str, str], split: str) -> str:
    """The place of a split alone; "" where it has none of its own."""
    if base == "folder":
        found = split_folder(_whole(options["path"]), split)
        return str(found.resolve()) if found else ""
    found = lists_of(options["path"]).get(split)
    return _place(found, options) if found else ""


def splits_of(base: str, options: dict[str, str]) -> list[str]:
    """The splits that it has of its own; [] where all its images serve as any split."""
    return [split for split in SPLITS if part_of(base, options, split)]


def is_undivided(name: str) -> bool:
    """Is this somebody's own set, all of whose images serve as any split? What is trained on them has none left to be scored by."""
    base, _, rest = name.partition(":")
    return base in OWN and not splits_of(base, parse_own(base, rest))


def places_of(base: str, options: dict[str, str]) -> tuple[str, ...]:
    if base == "folder":
        return (str(_whole(options["path"])),)
    return tuple(map(str, lists_of(options["path"]).values()))


def read_own(base: str, options: dict[str, str], split: str) -> Raw:
    """A split: its own folder or list, where it has one of any split, else all there is."""
    path = _whole(options["path"])
    if base == "folder":
        if any(split_folder(path, other) for other in SPLITS):
            say_what_lies_beside(path)
            return formats.folder(split_folder(path, split) or path / split)
        return without_splits(formats.folder(path))
    found, images = lists_of(options["path"]), _whole(options["root"]) if "root" in options else None
    if images and not images.is_dir():
        raise NotThere(f"{spelled(base, options)}: expected the folder of its images at {images}")
    if "" in found:
        return lists.read(found[""], images)
    if split not in found:
        raise NotThere(f"expected a list of images at {path / split}.txt")
    return lists.read(found[split], images, found.get("train"))


def say_what_lies_beside(path: Path) -> None:
    """A word on folders beside those of the splits: their images are looked at by nobody."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    splits = [name for of in SPLITS.values() for name in of]
    if others := [name for name in names if name not in splits]:
        beside = " and ".join(name for name in splits if name in names)
        note(f"{path}: what lies in {formats.listed(others)}, beside {beside}, is left out")


def without_splits(raw: Raw) -> Raw:
    """The same without labels where all its class folders are called as splits are elsewhere: Train and Test are no classes."""
    if raw.labels is None or not all(name.casefold() in LIKE_SPLITS for name in raw.classes):
        return raw
    said = f"its folders {', '.join(raw.classes)} look like splits, which are called train and test (or val)"
    return replace(raw, labels=None, unlabelled=said)


def split_folder(path: Path, split: str) -> Path | None:
    return next((path / name for name in SPLITS[split] if (path / name).is_dir()), None)


def lists_of(words: str) -> dict[str, Path]:
    """The lists by split: of a folder its train.txt and test.txt (or val.txt), of `TRAIN,TEST` these two; of one file that alone, under ""."""
    path = _whole(words)
    if path.is_dir():
        names = {split: next((n for n in of if (path / f"{n}.txt").exists()), None) for split, of in SPLITS.items()}
        if not any(names.values()):
            raise NotThere(f"expected the lists train.txt and test.txt (or val.txt) in the folder {path}")
        return {split: path / f"{name}.txt" for split, name in names.items() if name}
    if path.exists() or "," not in words:
        return {"": path}
    parts = words.split(",")
    if len(parts) != 2 or not all(parts):
        raise UserError(f"list:{words}: expected one list, a folder of lists, or two lists TRAIN,TEST")
    return {split: _whole(part) for split, part in zip(SPLITS, parts)}


def _place(path: Path, options: dict[str, str]) -> str:
    images = _whole(options["root"]) if "root" in options else path.parent
    return f"list:{path.resolve()}{ROOT}{images.resolve()}"


def _whole(path: str) -> Path:
    return Path(path).expanduser().absolute()
