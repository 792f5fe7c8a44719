"""ImageNet-1k and its subsets: which classes, in which order, from which folder. Lists that differ are never mixed silently."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from common.cli.errors import UserError
from common.data.formats import NotThere, Raw, draw, folder, list_hash
from common.data.listing import class_names, look

LISTS = {"imagenet100": ("NPOS", "imagenet100.txt"), "imagenet100-mcm": ("MCM", "imagenet100_mcm.txt")}
# ImageNet's official test labels are secret: the field tests on the validation set
SPLITS = {"train": "train", "test": "val"}


@cache
def class_list(name: str) -> tuple[str, ...]:
    """The 100 WordNet ids of `imagenet100` or `imagenet100-mcm`, sorted: a label is an id's place (torchvision's ImageFolder does the same)."""
    text = (Path(__file__).parent / LISTS[name][1]).read_text()
    return tuple(sorted(line for line in text.split("\n") if line and not line.startswith("#")))


def class_folders(path: Path) -> tuple[str, ...]:
    """Sorted names of the class folders (or .tar files, one a class) below `path`. Raises UserError where there are none, saying how to make them."""
    if not path.is_dir():
        raise NotThere(f"expected class folders (n01440764, ...) in {path}, which is not there")
    found = tuple(class_names(path))
    if not found:
        flat = f"{path} is one flat folder of {len(look(path).images):,} images, expected one folder a class. "
        raise UserError(
            flat
            + "Sort it by the devkit's ground truth: with ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in one folder, "
            'torchvision.datasets.ImageNet(FOLDER, split="val") writes FOLDER/val with class folders'
        )
    return found


def imagenet100(root: Path, split: str, options: dict, *, name: str = "imagenet100") -> Raw:
    """The 100 classes of one list, from ROOT/NAME where it is, else picked out of ROOT/imagenet1k.

    Raises UserError where ROOT/NAME holds other classes than the list's (another list, a mixture, some missing).
    """
    wanted = class_list(name)
    if (root / name).exists():
        path = root / name / SPLITS[split]
        _refuse_other_classes(name, path, set(class_folders(path)))
    else:
        path = root / "imagenet1k" / SPLITS[split]
        if not path.exists():
            raise NotThere(
                f"{name}: expected {root / name} (the 100 class folders) or {root / 'imagenet1k'} (all 1,000)"
            )
        missing = sorted(set(wanted) - set(class_folders(path)))
        if missing:
            raise UserError(f"{name}: {path} lacks {len(missing)} of the list's classes: {', '.join(missing[:5])}")
    return _with_list(folder(path, classes=wanted), wanted, LISTS[name][0])


def _refuse_other_classes(name: str, path: Path, found: set[str]) -> None:
    wanted = set(class_list(name))
    if found == wanted:
        return
    shares = {other: len(found & set(class_list(other))) for other in LISTS}
    said = ", ".join(f"{count} of the {LISTS[other][0]} list" for other, count in shares.items())
    whole = [other for other in LISTS if found == set(class_list(other))]
    hint = f"; it is {whole[0]}" if whole else ""
    raise UserError(
        f"{name}: the {len(found)} class folders in {path} are not the {LISTS[name][0]} list's 100 ({said}){hint}. "
        "The lists share 6 classes; results on one do not compare with the other"
    )


def imagenet1k(root: Path, split: str, options: dict) -> Raw:
    """All classes, or with options C and seed the C classes with the smallest SHA-256 of "seed/id" (see `draw`)."""
    path = root / "imagenet1k" / SPLITS[split]
    found = class_folders(path)
    if len(found) != 1000:
        raise UserError(f"imagenet1k: {path} has {len(found)} class folders, expected 1,000")
    if "C" not in options:
        return _with_list(folder(path, classes=found), found, "ILSVRC2012")
    seed = options.get("seed", 0)
    chosen = tuple(found[row] for row in draw(found, options["C"], seed))
    return _with_list(folder(path, classes=chosen), chosen, f"{options['C']} of ILSVRC2012 drawn with seed {seed}")


def _with_list(raw: Raw, wanted: tuple[str, ...], title: str) -> Raw:
    return replace(raw, facts=raw.facts | {"class_list": title, "class_list_sha256": list_hash(wanted)})
