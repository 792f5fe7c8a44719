"""The table of sets: what each is, where it comes from, how many images it must have, and how it is read.

A name is `NAME` or `NAME:option=value,option=value`; `folder:PATH` is any folder of images; names that begin with "shapes" are generated.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common.data import formats, imagenet
from common.data.folders import FolderImages, decode, in_memory
from common.data.formats import Raw
from common.data.images import Images, balanced_subset
from common.data.transforms import CIFAR, IMAGENET, Transform
from common.errors import UserError, unknown

IN_MEMORY_BYTES = 512 << 20  # folders whose decoded pixels take more are streamed
ENCODERS = {"jpeg": "JPEG", "webp": "WEBP"}
PLACES365_DRAW, PLACES365_SEED = 10_000, 0
DROPBOX, MOS = "https://www.dropbox.com/s", "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset"
TV, PO = "torchvision's source", "pytorch-ood's source"
ILSVRC = "register at https://image-net.org; ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, unpacked into {root}/imagenet1k/train/nXXXXXXXX and .../val/nXXXXXXXX"


@dataclass(frozen=True)
class Spec:
    """One set. `counts`: images a split must have. `md5s`: published ones only, by file name. `size_px` None: sizes vary."""

    name: str
    title: str
    counts: dict[str, int]
    loader: Callable[[Path, str, dict], Raw]
    role: str = "ood"  # "id", "ood", "id or ood", "boxes" (localisation only)
    is_benchmark: bool = True
    urls: tuple[str, ...] = ()
    md5s: dict[str, str] = field(default_factory=dict)
    md5_source: str = ""
    size_px: int | None = None
    encoding: str = "JPEG"
    licence: str = "none stated"
    note: str = ""
    by_hand: str = ""  # where no download works for everyone: what, from where, to where
    folder: str = ""  # below the root; "" = name
    options: tuple[str, ...] = ()  # whole numbers
    transform: Transform = CIFAR

    @property
    def place(self) -> str:
        return self.folder or self.name


def _folder(place: str, *, labelled: bool = False) -> Callable[[Path, str, dict], Raw]:
    return lambda root, split, options: formats.folder(root / place, labelled=labelled)


def _svhn(root: Path, split: str, options: dict) -> Raw:
    raw = formats.svhn(root, split)
    if "n" not in options:
        return raw
    if options["n"] % 10:
        raise UserError(f"svhn: n must be a multiple of 10 (the first n/10 of each digit), got {options['n']}")
    return formats.first_of_each(raw, options["n"] // 10)


def _places365(root: Path, split: str, options: dict) -> Raw:
    raw = formats.folder(root / "places365", labelled=False)
    # The draw hashes file names without their folders, so that it does not depend on how the archive was unpacked.
    names = [Path(name).name for name in raw.names]
    count, seed = options.get("n", PLACES365_DRAW), options.get("seed", PLACES365_SEED)
    if len(raw) != SPECS["places365"].counts["all"]:
        raise UserError(f"places365: {len(raw):,} images below {root / 'places365'}, expected 328,500: a draw from another pool is another draw")
    rows = formats.draw(names, count, seed)
    said = f"{count} of the test images by SHA-256 of 'seed/name', seed {seed}; not the authors' list, which was never published"
    return raw.take(rows, draw=said, list_sha256=formats.list_hash([names[row] for row in rows]))


def _boxes(root: Path, split: str, options: dict) -> Raw:
    """Images with one box each, in boxes.csv's order; labels are CIFAR-10's; facts["boxes"] = [x0, y0, x1, y1], pixels, inclusive."""
    place = root / "tiny-imagenet-boxes"
    if not (place / "boxes.csv").exists():
        raise UserError(f"tiny-imagenet-boxes: expected {place / 'boxes.csv'}")
    rows = [line.split(",") for line in (place / "boxes.csv").read_text().split()[1:]]
    classes = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    names = tuple(f"images/{row[0]}" for row in rows)
    labels = np.array([classes.index(row[2]) for row in rows], dtype=np.int64)
    return Raw(tuple(place / name for name in names), names, labels, classes, {"boxes": [[int(v) for v in row[3:7]] for row in rows]})


_ALL = [
    Spec("cifar10", "CIFAR-10", {"train": 50_000, "test": 10_000}, lambda root, split, options: formats.cifar10(root, split), "id or ood",
         urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",), md5_source=TV, folder="cifar-10-batches-py",
         md5s={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a", "data_batch_1": "c99cafc152244af753f735de768cd75f",
               "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec", "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
               "data_batch_4": "634d18415352ddfa80567beed471001a", "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
               "test_batch": "40351d587109b95175f43aff81a1287e", "batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
         size_px=32, encoding="raw", licence="none stated; research use with citation (Krizhevsky 2009)",
         note="Drawn from 80 Million Tiny Images (withdrawn 2020). JPEG copies circulate and cost accuracy: only the raw pickles count."),
    Spec("cifar100", "CIFAR-100", {"train": 50_000, "test": 10_000}, lambda root, split, options: formats.cifar100(root, split), "id or ood",
         urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",), md5_source=TV, folder="cifar-100-python",
         md5s={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85", "train": "16019d7e3df5f24257cddd939b257f8d",
               "test": "f0ef6b0ae62326f3e7ffdfab6717acfc", "meta": "7973b15100ade9c7d40fb424638fde48"},
         size_px=32, encoding="raw", licence="none stated; research use with citation (Krizhevsky 2009)",
         note="No class in common with CIFAR-10, close ones are (truck, pickup truck). The test set alone is also read from cifar100-test/cifar100-test.npz."),
    Spec("svhn", "SVHN", {"train": 73_257, "test": 26_032}, _svhn, "id or ood", options=("n",), md5_source=TV,
         urls=("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "http://ufldl.stanford.edu/housenumbers/train_32x32.mat"),
         md5s={"test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3", "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373"},
         size_px=32, encoding="raw", licence="non-commercial use",
         note="All 26,032 test images by default (DFB). svhn:n=10000 = the first 1,000 of each digit, what the DICE, KNN, ASH and CIDER repositories evaluate."),
    Spec("lsun_crop", "LSUN-C", {"test": 10_000}, _folder("lsun_crop"), urls=(f"{DROPBOX}/fhtsw1m3qxlwj6h/LSUN.tar.gz",),
         md5s={"LSUN.tar.gz": "458a0a0ab8e5f1cb4516d7400568e460"}, md5_source=PO, encoding="PNG", licence="research use (LSUN)",
         note="ODIN's random crops. Sizes are read, not assumed. Far easier than LSUN-R for most scores: never swap the two."),
    Spec("lsun_resize", "LSUN-R", {"test": 10_000}, _folder("lsun_resize"), urls=(f"{DROPBOX}/moqh2wh8696c3yl/LSUN_resize.tar.gz",),
         md5s={"LSUN_resize.tar.gz": "278b7b31c8cb7e804a1465a8ce03a2dc"}, md5_source=PO, size_px=32, encoding="PNG", licence="research use (LSUN)",
         note="Shrunk without antialiasing: high frequencies that a score can use (shown by CSI)."),
    Spec("isun", "iSUN", {"test": 8_925}, _folder("isun"), urls=(f"{DROPBOX}/ssz7qxfqae0cca5/iSUN.tar.gz",), size_px=32, encoding="JPEG",
         licence="research use (iSUN)", note="A part of SUN, shrunk like LSUN-R."),
    Spec("textures", "Textures", {"test": 5_640}, _folder("textures/dtd/images"), md5_source=TV,
         urls=("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
         md5s={"dtd-r1.0.1.tar.gz": "fff73e5086ae6bdbea199a49dfb8a4c1"}, licence="research use",
         note="All 5,640 images of DTD (47 x 120), not torchvision's split of 1,880. Files without an image's extension are left out."),
    Spec("places365", "Places365", {"test": PLACES365_DRAW, "all": 328_500}, _places365, options=("n", "seed"),
         urls=("http://data.csail.mit.edu/places/places365/test_256.tar",), licence="research use",
         note="10,000 of the test set by the draw described below; nobody published the list behind printed numbers."),
    Spec("imagenet100", "ImageNet-100", {"train": 0, "test": 5_000}, imagenet.imagenet100, "id", by_hand=ILSVRC, licence="non-commercial research",
         transform=IMAGENET, note="NPOS's list (LBF cites NPOS). From imagenet100/{train,val} or picked out of imagenet1k."),
    Spec("imagenet100-mcm", "ImageNet-100 (MCM list)", {"train": 0, "test": 5_000}, partial(imagenet.imagenet100, name="imagenet100-mcm"), "id",
         by_hand=ILSVRC, licence="non-commercial research", transform=IMAGENET, note="MCM's list: shares 6 of 100 classes with NPOS's."),
    Spec("imagenet1k", "ImageNet-1k", {"train": 1_281_167, "test": 50_000}, imagenet.imagenet1k, "id", by_hand=ILSVRC, md5_source=TV,
         md5s={"ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e", "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
               "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf"},
         licence="non-commercial research", options=("C", "seed"), transform=IMAGENET,
         note="Test = the validation set, in class folders. imagenet1k:C=200,seed=0 = a drawn subset of classes."),
    Spec("inaturalist", "iNaturalist", {"test": 10_000}, _folder("inaturalist"), urls=(f"{MOS}/iNaturalist.tar.gz",), transform=IMAGENET,
         licence="research use", note="MOS's 10,000 of 110 plant classes absent from ImageNet-1k."),
    Spec("sun", "SUN", {"test": 10_000}, _folder("sun"), urls=(f"{MOS}/SUN.tar.gz",), transform=IMAGENET, licence="research use",
         note="MOS's 10,000 of 50 classes; scenes that contain ImageNet objects."),
    Spec("places", "Places", {"test": 10_000}, _folder("places"), urls=(f"{MOS}/Places.tar.gz",), transform=IMAGENET, licence="research use",
         note="MOS's 10,000 of 50 classes. NINCO found an ImageNet class in 227 of 410 looked at. Not Places365's draw, although DFB's table says Places365."),
    Spec("imagenet_o", "ImageNet-O", {"test": 2_000}, _folder("imagenet_o"), urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-o.tar",),
         md5s={"imagenet-o.tar": "86bd7a50c1c4074fb18fc5f219d6d50b"}, md5_source=PO, transform=IMAGENET, licence="none checked",
         note="Selected to fool ResNet-50, so its scores can be below chance."),
    Spec("textures-10", "Textures-10 (stand-in)", {"test": 600}, _folder("textures-10"), is_benchmark=False, encoding="WEBP", licence="research use (DTD)",
         by_hand="60 images each of ten of DTD's categories, banded to crystalline, shorter side scaled to 64 px, into {root}/textures-10/CATEGORY",
         note="Not Textures: ten of its 47 categories, WebP quality 90."),
    Spec("miniplaces-2500", "MiniPlaces-2500 (stand-in)", {"test": 2_500}, _folder("miniplaces-2500"), is_benchmark=False, licence="research use",
         by_hand="the first 2,500 validation images of MiniPlaces (128 x 128 JPEG), into {root}/miniplaces-2500", size_px=128,
         note="Not Places365. Some images show what a CIFAR-10 class looks like (an airliner was seen)."),
    Spec("tiny-imagenet-boxes", "Tiny-ImageNet boxes", {"boxes": 1_050}, _boxes, "boxes", is_benchmark=False, size_px=64,
         licence="research use (ImageNet terms)", folder="tiny-imagenet-boxes",
         by_hand="Tiny-ImageNet validation images of classes that map to a CIFAR-10 class, and boxes.csv, into {root}/tiny-imagenet-boxes",
         note="For localisation only: its images show CIFAR-10's classes, so it is never an OOD set."),
]
SPECS: dict[str, Spec] = {spec.name: spec for spec in _ALL}


def parse(name: str) -> tuple[str, dict[str, str]]:
    """`svhn:n=10000` -> ("svhn", {"n": "10000"}). A folder's path is kept whole under "path"."""
    base, _, rest = name.partition(":")
    if base == "folder":
        if not rest:
            raise UserError("folder: needs a path, as in folder:my/images")
        return base, {"path": rest}
    pairs = [part.partition("=") for part in rest.split(",") if part]
    wrong = [key for key, sign, value in pairs if not (key and sign and value)]
    if wrong:
        raise UserError(f"data set {name!r}: expected NAME:option=value,option=value")
    return base, {key: value for key, _, value in pairs}


def spec_of(name: str) -> Spec:
    """The table's row for a name (options allowed). Raises UserError that lists the known names."""
    base = parse(name)[0]
    if base == "folder":
        path = parse(name)[1]["path"]
        return Spec(name, f"folder {path}", {}, partial(_any_folder, Path(path)), "id or ood", is_benchmark=False, encoding="as found")
    if base not in SPECS:
        raise unknown("data set", base, (*SPECS, "folder:PATH", *_shapes_names()))
    return SPECS[base]


def check_ood(name: str, id_name: str) -> None:
    """Raise UserError where `name` cannot stand as an OOD set for `id_name`."""
    if name.startswith("shapes"):
        return
    spec = spec_of(name)
    if spec.role in ("id", "boxes"):
        why = "for localisation only; its images show CIFAR-10's classes" if spec.role == "boxes" else "an in-distribution set"
        raise UserError(f"{name} is {why}: it cannot be an OOD set")
    if name == id_name:
        raise UserError(f"{name} is the in-distribution set itself; control sets are {name}:encode=jpeg75 and the like")


def load(
    name: str, split: str, *, root: Path, transform: Transform | None = None, limit: int | None = None, seed: int = 0
) -> Images | FolderImages:
    """A split of a set, every image through `transform` (default: the set's own). `limit` images are drawn by `seed`, classes balanced.

    Raises UserError for an unknown name, split or option, a missing set, a wrong count and an image that does not decode.
    """
    if limit is not None and not limit >= 1:
        raise UserError(f"limit must be >= 1, got {limit}")
    if name.startswith("shapes"):
        return _load_shapes(name, split, limit)
    spec, options = spec_of(name), parse(name)[1]
    encode = options.pop("encode", None)
    raw = read(name, split, root)
    if limit is not None and limit < len(raw):
        raw = _limited(raw, limit, seed)
    transform = transform or spec.transform
    facts = raw.facts | {"set": spec.title, "benchmark": spec.is_benchmark, "split": split, "encoding": encode or spec.encoding}
    facts |= {"transform": transform.facts(), "of": spec.name} | ({"limit": limit, "limit_seed": seed} if limit else {})
    if encode is not None:
        _check_encode(name, spec, encode)
        raw = Raw(_encoded(raw.items, encode), raw.names, raw.labels, raw.classes)
    labels = None if raw.labels is None else torch.from_numpy(np.ascontiguousarray(raw.labels))
    if isinstance(raw.items, np.ndarray) or len(raw) * 3 * transform.size_px**2 <= IN_MEMORY_BYTES:
        return Images(name, in_memory(raw.items, transform), labels, classes=raw.classes, facts=facts)
    return FolderImages(name, tuple(raw.items), raw.names, transform, labels, raw.classes, facts)


def read(name: str, split: str, root: Path) -> Raw:
    """The split as it lies on disk, its count checked, nothing resized."""
    spec, options = spec_of(name), parse(name)[1]
    options.pop("encode", None)
    splits = [known for known in spec.counts if known != "all"]
    if splits and split not in splits:
        hint = "; it is for localisation only and cannot be an OOD set" if spec.role == "boxes" else ""
        raise UserError(f"{spec.name} has no split {split!r}; it has {', '.join(splits)}{hint}")
    numbers = {} if spec.name == name and name.startswith("folder:") else _whole_numbers(spec, options)
    if not splits or (root / spec.place).exists() or spec.name in ("cifar100", "imagenet100", "imagenet100-mcm"):
        raw = spec.loader(root, split, numbers)
    else:
        raise UserError(f"{spec.name}: expected {root / spec.place}, which is not there; python -m common.data fetch {spec.name} says how to get it")
    expected = numbers.get("n", spec.counts.get(split, 0)) if "C" not in numbers else 0
    if expected and len(raw) != expected:
        raise UserError(f"{spec.name} {split} has {len(raw):,} images, expected {expected:,}; python -m common.data verify {spec.name}")
    return raw


def _whole_numbers(spec: Spec, options: dict[str, str]) -> dict[str, int]:
    for key, value in options.items():
        if key not in spec.options:
            known = (*spec.options, *(("encode",) if spec.size_px == 32 else ()))
            raise unknown(f"option of {spec.name}", key, known) if known else UserError(f"{spec.name} takes no option, got {key!r}")
        if not value.isdecimal():
            raise UserError(f"{spec.name}: {key} must be a whole number, got {value!r}")
    return {key: int(value) for key, value in options.items()}


def _limited(raw: Raw, limit: int, seed: int) -> Raw:
    if raw.labels is None:
        return raw.take(formats.draw(raw.names, limit, seed))
    return raw.take(balanced_subset(torch.from_numpy(raw.labels), limit, torch.Generator().manual_seed(seed)).tolist())


def _any_folder(path: Path, root: Path, split: str, options: dict) -> Raw:
    """`path`/`split` where `path` has a folder train or test, else `path` itself for any split."""
    path = path.expanduser()
    divided = any((path / name).is_dir() for name in ("train", "test"))
    return formats.folder(path / split if divided else path)


def _check_encode(name: str, spec: Spec, encode: str) -> None:
    kind, quality = encode.rstrip("0123456789"), encode[len(encode.rstrip("0123456789")) :]
    if spec.size_px != 32:
        raise UserError(f"{name}: encode is for sets of 32x32 images")
    if kind not in ENCODERS or not quality or not 1 <= int(quality) <= 100:
        raise UserError(f"encode must be jpegQ or webpQ with Q in [1, 100], got {encode!r}")


def _encoded(items: np.ndarray | tuple, encode: str) -> np.ndarray:
    """Every image through an encoder and back, PIL's settings at that quality: the cue alone, content unchanged."""
    kind = encode.rstrip("0123456789")
    again = []
    for item in items:
        buffer, image = BytesIO(), Image.fromarray(item) if isinstance(item, np.ndarray) else decode(item)
        image.save(buffer, ENCODERS[kind], quality=int(encode[len(kind) :]))
        again.append(np.asarray(Image.open(buffer).convert("RGB")))
    return np.stack(again)


def _shapes_names() -> tuple[str, ...]:
    try:
        from common.data import shapes
    except ImportError:
        return ("shapes",)
    return shapes.NAMES


def _load_shapes(name: str, split: str, limit: int | None) -> Images:
    from common.data import shapes  # generated, and only when asked for

    return shapes.load(name, split, limit)
