"""docs/datasets.md and the command's list, both made from SPECS."""

from pathlib import Path

from common.data.fetch import file_name
from common.data.formats import PLACES365_POOL, list_hash
from common.data.imagenet import LISTS, class_list
from common.data.listing import look
from common.data.specs import SPECS, Spec

HEAD = """# Data sets

Written by `python -m common.data table` from `SPECS` in `common/data/specs.py`; change it there.

    python -m common.data list             # what is there, what is missing
    python -m common.data fetch isun svhn  # download, resume, check, unpack
    python -m common.data verify           # counts, sizes, checksums, every image decoded, overlap with the ID test set

All sets lie below one folder: `--data ROOT`, else `$OOD_DATA`, else `data/`. Nothing needs the network: a set put at its place by hand is read the same way.
Licences are given as commonly stated; read the source's own terms before use.
"""

RULES = f"""## Rules

**Names.** `svhn:n=10000`, `imagenet1k:C=200,seed=0` and `places365:seed=1` take options; `folder:PATH` is any folder of images (class folders become labels; with `train/` or
`test/` inside, a split is read from its own folder), `list:FILE` a list of them; `shapes...` is generated. `cifar10:encode=jpeg75` and `...:encode=webp90` are control sets: the same 32x32 images through a
lossy encoder and back. If a score tells them from the originals, part of its result on JPEG or WebP sets is the encoding. A set named twice in one command, in whatever spelling, is
one set, and no two sets share a title: a folder goes by its whole path.

**Your own images.** `folder:PATH` has class folders in `PATH/train` and `PATH/test` (or `val`); an OOD set, or images to score, may lie flat. Without `train/` and `test/` all of it is
trained on, and an evaluation on it is refused. `list:FILE` is a text file (UTF-8) with an image a line, `PATH` or `PATH LABEL`, paths below the list's folder or, with
`list:FILE:root=DIR`, below `DIR`. The path ends at the last extension of an image, so names may have blanks. Labels are numbers from 0 without a gap, or names of classes, or -1
throughout: out of distribution (OpenOOD's lists are of this form). `classes.txt` beside the list names the classes, a line each, and may name one without images. As ID set: `list:DIR`
with `train.txt` and `test.txt` (or `val.txt`) in `DIR`, or `list:TRAIN,TEST`; the test list has the training list's classes and none of its images. The order of lines does not count:
a list and a folder of the same images, paths and classes are one set, with one digest. A fault in a list is one line that names file and line.

    python -m common.pretrain custom --id folder:pets --backbone resnet18 --out runs/pre
    python -m lbf.finetune runs/pre/checkpoint.pt --preset custom --out runs/lbf
    python -m dfb.masks runs/pre/checkpoint.pt --out runs/masks
    python -m dfb.finetune runs/pre/checkpoint.pt --masks runs/masks --preset custom --out runs/dfb
    python -m common.evaluate runs/lbf/checkpoint.pt --ood folder:street list:others.txt
    python -m dfb.evaluate runs/dfb/checkpoint.pt --vanilla runs/pre/checkpoint.pt --ood folder:street

The preset `custom` is this suite's own, untuned: size, normalisation, batch, length, rate, crop, and LBF's delta (1/K) and mu follow from images and network
(`common/training/custom.py`), are said on stderr, stand in the recipe, and give way to their flags.

**One transform for all.** Every image, ID or OOD, passes the same transform, which stands in each result: CIFAR: shorter side to 32, centre 32x32 (DICE, LINe, CIDER). ImageNet:
shorter side to 256, centre 224x224. DFB: squeezed to 128x128. Resampling is PIL's bilinear filter, antialiased when it shrinks. An image that has the size already is not resampled.

**Reading an image.** As a viewer shows it, by one rule for every set, in memory and streamed: turned upright by its EXIF orientation (torchvision's loader leaves it as stored, so a
photograph with such a tag differs from what others' code sees); transparent pixels (an alpha channel, or a palette's or a grey value's transparency) over white; 16-bit grey scaled from
0..65,535 to 0..255; grey, palette and CMYK become RGB; of several frames or pages the first. Float and 32-bit integer images are refused by name. Read are the usual photographs' and
renderings' formats, by extension in any capitals, as far as the installed Pillow opens them; other files are left out, counted on stderr with an example. Hidden files and folders do
not count. A folder that several links lead to is read once, its own parents never. A file that does not decode stops the command; with `--on-corrupt skip` all files are decoded once
before, and those that do not are left out, each named and counted.

**Classes.** Labels are numbered by the names that the checkpoint has, in every split. A split with another class, or without one of them, is refused by name; a class without images
needs an empty folder (or its name in `classes.txt`), and shifts nothing. `val/` is the test split where there is no `test/`.

**ID images among OOD images.** The ID set's own folder as OOD set is refused under any spelling, and so is a set all of whose images are in the ID test set; some shared images are
counted on stderr and stay in. Compared are pixels at the network's size; those of streamed images (above 64 px) are known once they have passed, so that features taken from `--cache`, and
several processes, leave the files' bytes to compare. A streamed set of more than 50,000 files is not compared.

**The Places365 draw.** Nobody published the list of 10,000 images behind the printed numbers, so ours is not theirs. Rule: of the {PLACES365_POOL:,} file names (without folders) of
`test_256.tar`, the 10,000 with the smallest SHA-256 of `seed/name` (seed 0, UTF-8). No random generator takes part, so any two people get the same images. The hash of the sorted
list stands in each result. `imagenet1k:C=200,seed=0` draws its classes by the same rule from the sorted WordNet ids.

**Checksums.** Only published ones are compared (torchvision's and pytorch-ood's source). Where none is published, `verify` says so, checks counts, sizes and decoding, and keeps a
record of its own (`ROOT/.verified/NAME.json`, SHA-256 of each file): written by the first verification without a fault, compared by all later ones, renewed by `--record`.
Of Places365 the drawn images are decoded and the others only counted.
LSUN-C and LSUN-R have the same count and the same encoding; they are told apart by image size and by the mean difference of neighbouring grey values (shrunk scenes are rougher than
crops). That limit was set on iSUN and on cuts of MiniPlaces, not on LSUN itself.

**Stand-ins** bear their own names and never a benchmark's.

**ImageNet-100** is not one list. Label = place of the WordNet id in sorted order. A folder whose classes are not exactly one list is refused.
"""


def page() -> str:
    """The whole page as markdown."""
    lists = "\n".join(
        f"- `{name}`: {LISTS[name][0]}'s list, SHA-256 of the sorted ids `{list_hash(class_list(name))}`"
        for name in LISTS
    )
    rows = "\n".join(_row(spec) for spec in SPECS.values())
    head = "| name | printed as | images | size | encoding | licence | benchmark? |\n| --- | --- | --- | --- | --- | --- | --- |"
    sources = "\n".join(_source(spec) for spec in SPECS.values())
    return f"{HEAD}\n## Table\n\n{head}\n{rows}\n\n{RULES}\n{lists}\n\n## Sources and notes\n\n{sources}\n"


def _row(spec: Spec) -> str:
    images = ", ".join(f"{split} {count:,}" if count else split for split, count in spec.counts.items())
    size = f"{spec.size_px}x{spec.size_px}" if spec.size_px else "varies"
    use = "yes" if spec.is_benchmark else "no (localisation only)" if spec.role == "boxes" else "no (stand-in)"
    return f"| `{spec.name}` | {spec.title} | {images} | {size} | {spec.encoding} | {spec.licence} | {use} |"


def _source(spec: Spec) -> str:
    places = " or ".join(f"`ROOT/{place}`" for place in spec.places or (spec.name,))
    urls = [f"  - <{url}>, {_checksum(spec, file_name(url))}" for url in spec.urls]
    others = [f"  - `{name}`, {_checksum(spec, name)}" for name in spec.md5s if name not in map(file_name, spec.urls)]
    by_hand = [f"  - by hand: {spec.by_hand.format(root='ROOT')}"] if spec.by_hand else []
    return "\n".join([f"- **{spec.title}** (`{spec.name}`, in {places}). {spec.note}", *urls, *others, *by_hand])


def _checksum(spec: Spec, name: str) -> str:
    return f"MD5 `{spec.md5s[name]}` ({spec.md5_source})" if name in spec.md5s else "no published checksum"


def state(spec: Spec, root: Path) -> str:
    """found, missing or incomplete, from file names alone: nothing is opened."""
    place = spec.found(root)
    if place is None:
        return "missing"
    if spec.encoding == "raw":
        if place.name == "cifar100-test":
            return "test set only"
        files = [name for name in spec.md5s if not name.endswith(".gz")]
        there = sum((place / name).exists() for name in files)
        return "found" if there == len(files) else f"incomplete: {there} of {len(files)} files"
    if place.name != spec.name and spec.name in SPECS:
        return f"in {place.name}, not counted"
    if place.is_file():
        return "found, a list"
    count = len(look(place).images)
    expected = (
        PLACES365_POOL if spec.name == "places365" else 0 if 0 in spec.counts.values() else sum(spec.counts.values())
    )
    if not expected or count == expected:
        return f"found, {count:,} images"
    return f"incomplete: {count:,} of {expected:,}"
