"""The table of sets: what each is, where it comes from, how many images it must have, and how it is read.

A name is `NAME` or `NAME:option=value,option=value`; `folder:PATH` and `list:FILE` are somebody's own images (common/data/own.py); names that begin with
"shapes" are generated.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.cli.errors import UserError, unknown
from common.data import formats, imagenet
from common.data.formats import Raw
from common.data.notes import note
from common.data.own import NAMES, OWN, parse_own, part_of, place_of, places_of, read_own, spelled, splits_of
from common.data.transforms import CIFAR, IMAGENET, Transform

# common/data/shapes.py
GENERATED = ("shapes", "shapes-objects", "shapes-textures", "shapes-noise", "shapes-backgrounds")
DROPBOX, MOS = "https://www.dropbox.com/s", "http://pages.cs.wisc.edu/~huangrui/imagenet_ood_dataset"
TV, PO = "torchvision's source", "pytorch-ood's source"
ILSVRC = (
    "register at https://image-net.org for ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz; "
    "put the class folders (n01440764, ...) into {root}/imagenet1k/train and {root}/imagenet1k/val"
)


@dataclass(frozen=True)
class Spec:
    """One set. `md5s` are published ones only, by file name; `counts` 0 and `size_px` None mean "not stated" and "varies"."""

    name: str
    title: str  # as tables print it
    counts: dict[str, int]  # images of each split
    loader: Callable[[Path, str, dict[str, int]], Raw]  # (root, split, options)
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
    places: tuple[str, ...] = ()  # folders below the root, any of which may hold it; () = its name
    options: tuple[str, ...] = ()  # whole numbers
    transform: Transform = CIFAR

    def found(self, root: Path) -> Path | None:
        """The first of its places that exists."""
        return next((root / place for place in self.places or (self.name,) if (root / place).exists()), None)

    def how_to_get(self, root: Path) -> str:
        if self.urls:
            return f"python -m common.data fetch {self.name} --data {root}"
        return self.by_hand.format(root=root)


def _folder(place: str) -> Callable[[Path, str, dict], Raw]:
    return lambda root, split, options: formats.folder(root / place, labelled=False)


# One paragraph a set.
# fmt: off
_ALL = [
    Spec("cifar10", "CIFAR-10", {"train": 50_000, "test": 10_000}, formats.cifar10, "id or ood",
         urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",), md5_source=TV, places=("cifar-10-batches-py",),
         md5s={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a", "data_batch_1": "c99cafc152244af753f735de768cd75f",
               "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec", "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
               "data_batch_4": "634d18415352ddfa80567beed471001a", "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
               "test_batch": "40351d587109b95175f43aff81a1287e", "batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
         size_px=32, encoding="raw", licence="none stated; research use with citation (Krizhevsky 2009)",
         note="Drawn from 80 Million Tiny Images (withdrawn 2020). JPEG copies circulate and cost accuracy: only the raw pickles count."),
    Spec("cifar100", "CIFAR-100", {"train": 50_000, "test": 10_000}, formats.cifar100, "id or ood",
         urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",), md5_source=TV, places=("cifar-100-python", "cifar100-test"),
         md5s={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85", "train": "16019d7e3df5f24257cddd939b257f8d",
               "test": "f0ef6b0ae62326f3e7ffdfab6717acfc", "meta": "7973b15100ade9c7d40fb424638fde48"},
         size_px=32, encoding="raw", licence="none stated; research use with citation (Krizhevsky 2009)",
         note="No class in common with CIFAR-10, but close ones (truck, pickup truck), and one image in both test sets: number 2203 here, a bus, is "
              "CIFAR-10's 9345, an automobile. The test set alone is also read from cifar100-test/cifar100-test.npz (images, fine, class_names)."),
    Spec("svhn", "SVHN", {"train": 73_257, "test": 26_032}, formats.svhn, "id or ood", options=("n",), md5_source=TV,
         urls=("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "http://ufldl.stanford.edu/housenumbers/train_32x32.mat"),
         md5s={"test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3", "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373"},
         size_px=32, encoding="raw", licence="non-commercial use",
         note="All 26,032 test images by default (DFB). svhn:n=10000 = the first 1,000 of each digit, what the DICE, KNN, ASH and CIDER "
              "repositories evaluate."),
    Spec("lsun_crop", "LSUN-C", {"test": 10_000}, _folder("lsun_crop"), urls=(f"{DROPBOX}/fhtsw1m3qxlwj6h/LSUN.tar.gz",),
         md5s={"LSUN.tar.gz": "458a0a0ab8e5f1cb4516d7400568e460"}, md5_source=PO, encoding="PNG", licence="research use (LSUN)",
         note="ODIN's random crops. Sizes are read, not assumed. Far easier than LSUN-R for most scores: never swap the two."),
    Spec("lsun_resize", "LSUN-R", {"test": 10_000}, _folder("lsun_resize"), urls=(f"{DROPBOX}/moqh2wh8696c3yl/LSUN_resize.tar.gz",),
         md5s={"LSUN_resize.tar.gz": "278b7b31c8cb7e804a1465a8ce03a2dc"}, md5_source=PO, size_px=32, encoding="PNG", licence="research use (LSUN)",
         note="Shrunk without antialiasing: high frequencies that a score can use (shown by CSI)."),
    Spec("isun", "iSUN", {"test": 8_925}, _folder("isun"), urls=(f"{DROPBOX}/ssz7qxfqae0cca5/iSUN.tar.gz",), size_px=32, encoding="JPEG",
         licence="research use (iSUN)",
         note="A part of SUN, shrunk like LSUN-R. The copy seen: JPEG, quality 75, 4:2:0, which is what cifar10:encode=jpeg75 imitates."),
    Spec("textures", "Textures", {"test": 5_640}, _folder("textures/dtd/images"), md5_source=TV,
         urls=("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
         md5s={"dtd-r1.0.1.tar.gz": "fff73e5086ae6bdbea199a49dfb8a4c1"}, licence="research use",
         note="All 5,640 images of DTD (47 x 120), not torchvision's split of 1,880. Files without an image's extension are left out."),
    Spec("places365", "Places365", {"test": formats.PLACES365_DRAW}, formats.places365, options=("n", "seed"),
         urls=("http://data.csail.mit.edu/places/places365/test_256.tar",), licence="research use",
         note="10,000 of the test set by the draw described below; nobody published the list behind printed numbers."),
    Spec("imagenet100", "ImageNet-100", {"train": 0, "test": 5_000}, imagenet.imagenet100, "id", by_hand=ILSVRC,
         places=("imagenet100", "imagenet1k"), licence="non-commercial research",
         transform=IMAGENET, note="NPOS's list (LBF cites NPOS). From imagenet100/{train,val} or picked out of imagenet1k."),
    Spec("imagenet100-mcm", "ImageNet-100 (MCM list)", {"train": 0, "test": 5_000}, partial(imagenet.imagenet100, name="imagenet100-mcm"), "id",
         by_hand=ILSVRC, places=("imagenet100-mcm", "imagenet1k"), licence="non-commercial research", transform=IMAGENET,
         note="MCM's list: shares 6 of 100 classes with NPOS's."),
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
         note="MOS's 10,000 of 50 classes. NINCO found an ImageNet class in 227 of 410 looked at. Not Places365, although DFB's README takes "
              "its Places column from here and its table says Places365."),
    Spec("imagenet_o", "ImageNet-O", {"test": 2_000}, _folder("imagenet_o"), urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-o.tar",),
         md5s={"imagenet-o.tar": "86bd7a50c1c4074fb18fc5f219d6d50b"}, md5_source=PO, transform=IMAGENET, licence="none checked",
         note="Selected to fool ResNet-50, so its scores can be below chance."),
    Spec("textures-10", "Textures-10 (stand-in)", {"test": 600}, _folder("textures-10"), is_benchmark=False, encoding="WEBP",
         licence="research use (DTD)",
         by_hand="60 images each of ten of DTD's categories, banded to crystalline, shorter side scaled to 64 px, into {root}/textures-10/CATEGORY",
         note="Not Textures: ten of its 47 categories, WebP quality 90."),
    Spec("textures-10-32px", "Textures-10 at 32 px (stand-in)", {"test": 1_200}, _folder("textures-10-32px"), is_benchmark=False, encoding="raw",
         licence="research use (DTD)", size_px=32,
         by_hand="all 120 images of DTD's first ten categories by torchvision's Resize(32), CenterCrop(32), PNG, into {root}/textures-10-32px/CATEGORY",
         note="Not Textures: ten of its 47 categories, at the size that CIFAR's protocol scales them to."),
    Spec("svhn-first-10000", "SVHN (first 10,000)", {"test": 10_000}, _folder("svhn-test-10000"), is_benchmark=False, encoding="raw", places=("svhn-test-10000",),
         licence="non-commercial use", size_px=32, by_hand="rows 0 to 9,999 of SVHN's test_32x32.mat as PNG, into {root}/svhn-test-10000/DIGIT",
         note="Not SVHN, which has 26,032, and not svhn:n=10000, which is the first 1,000 of each digit."),
    Spec("miniplaces-2500", "MiniPlaces-2500 (stand-in)", {"test": 2_500}, _folder("miniplaces-2500"), is_benchmark=False, licence="research use",
         by_hand="the first 2,500 validation images of MiniPlaces (128 x 128 JPEG), into {root}/miniplaces-2500", size_px=128,
         note="Not Places365. Some images show what a CIFAR-10 class looks like (an airliner was seen)."),
    Spec("tiny-imagenet-boxes", "Tiny-ImageNet boxes", {"boxes": 1_050}, formats.boxes, "boxes", is_benchmark=False, size_px=64,
         licence="research use (ImageNet terms)", transform=Transform(64, "none"),
         by_hand="Tiny-ImageNet validation images of classes that map to a CIFAR-10 class, and boxes.csv, into {root}/tiny-imagenet-boxes",
         note="For localisation only: its images show CIFAR-10's classes, so it is never an OOD set."),
]
# fmt: on
SPECS: dict[str, Spec] = {spec.name: spec for spec in _ALL}


_LBF_CIFAR = ("svhn", "lsun_crop", "lsun_resize", "isun", "textures", "places365")
# Names that stand for several OOD sets: those of the papers' tables, and all that ours know for CIFAR-10, stand-ins too.
BENCHMARKS = {
    "lbf-cifar": _LBF_CIFAR, "lbf-imagenet": ("inaturalist", "sun", "places", "textures"),
    "dfb-cifar10": ("cifar100", "svhn", "places365", "textures"), "dfb-cifar100": ("cifar10", "svhn", "places365", "textures"),
    "dfb-imagenet": ("imagenet_o", "inaturalist", "sun", "places"),
    "any-cifar10": ("isun", "cifar100", "svhn", "lsun_crop", "lsun_resize", "textures", "places365", "textures-10", "textures-10-32px",
                    "svhn-first-10000", "miniplaces-2500"),
}  # fmt: skip


def expand(names: Iterable[str]) -> list[str]:
    """Names of sets, those of BENCHMARKS spelled out."""
    return [one for name in names for one in BENCHMARKS.get(name, (name,))]


def parse(name: str) -> tuple[str, dict[str, str]]:
    """`svhn:n=10000` -> ("svhn", {"n": "10000"}), the options in the table's order and spelling. Of OWN sets as `own.parse_own`."""
    base, _, rest = name.partition(":")
    if base in OWN:
        return base, parse_own(base, rest)
    pairs = [part.partition("=") for part in rest.split(",") if part]
    if not all(key and sign and value for key, sign, value in pairs):
        raise UserError(f"data set {name!r}: expected NAME:option=value,option=value")
    if base not in SPECS:
        return base, {key: value for key, _, value in pairs}
    order = {key.lower(): key for key in (*SPECS[base].options, "encode")}
    options = {order.get(key.lower(), key): value.lower().lstrip("0") or "0" for key, _, value in pairs}
    if len(options) < len(pairs):
        raise UserError(f"data set {name!r} gives an option twice")
    return base, dict(sorted(options.items(), key=lambda pair: [*order.values(), pair[0]].index(pair[0])))


def canonical(name: str) -> str:
    """The one spelling of a name: `folder:a//b/` -> `folder:a/b`, `svhn:N=0100` -> `svhn:n=100`."""
    base, options = parse(name)
    if base in OWN:
        return spelled(base, options)
    if base not in SPECS:
        return name
    words = [f"{key}={value}" for key, value in options.items()]
    return base + (":" + ",".join(words) if options else "")


def place(name: str) -> str:
    """What a name leads to: two names of one folder, whatever links they go through, have one."""
    base, options = parse(name)
    return place_of(base, options) if base in OWN else canonical(name)


def is_control(name: str) -> bool:
    """Are these re-encoded images of the set that it names?"""
    return name.partition(":")[0] in SPECS and "encode" in parse(name)[1]


def spec_of(name: str) -> Spec:
    """The table's row for a name (options allowed). Raises UserError that lists the known names."""
    base, options = parse(name)
    if base in OWN:
        counts = dict.fromkeys(splits_of(base, options) or ["test"], 0)
        facts = {
            "role": "id or ood",
            "is_benchmark": False,
            "encoding": "as found",
            "licence": "yours",
            "by_hand": "put it there",
        }
        loader = lambda root, split, none: read_own(base, options, split)  # noqa: E731
        return Spec(name, name, counts, loader, **facts, places=places_of(base, options))
    if name.startswith("shapes"):
        raise UserError(f"{name} is generated: there are no files of it to list, fetch or verify")
    if base not in SPECS:
        raise unknown("data set", base, (*SPECS, *NAMES, *GENERATED))
    known = (*SPECS[base].options, "encode") if SPECS[base].size_px == 32 else SPECS[base].options
    for key, value in options.items():
        if key not in known:
            said = f"the options {', '.join(known)}" if known else "no option"
            raise UserError(f"{base} takes {said}, got {key!r}")
        if key != "encode" and not value.isdecimal():
            raise UserError(f"{base}: {key} must be a whole number, got {value!r}")
    return SPECS[base]


def check_ood(name: str, id_name: str) -> None:
    """Raise UserError where `name` cannot stand as an OOD set for `id_name`."""
    if place(name) == place(id_name):
        controls = f"; its control sets are {name}:encode=jpeg75 and the like" if id_name in SPECS else ""
        raise UserError(f"{name} is the in-distribution set itself{controls}")
    if parse(id_name)[0] in OWN:
        train, test = (part_of(*parse(id_name), split) for split in ("train", "test"))
        if place(name) == test:
            raise UserError(f"{name} is the test split of the in-distribution set {id_name}")
        if place(name) == train:
            note(f"{name} is the training split of the in-distribution set {id_name}: its images count as OOD")
    if name.startswith("shapes"):
        return
    why = {
        "boxes": "is for localisation only (its images show CIFAR-10's classes)",
        "id": "is an in-distribution set",
    }.get(spec_of(name).role)
    if why:
        raise UserError(f"{name} {why}: it cannot be an OOD set")


def title(name: str) -> str:
    """What a table prints, another for every other set: one read with options never bears the plain title, a folder goes by its path."""
    if name.partition(":")[0] not in (*SPECS, *OWN):  # generated, or somebody's own
        return name
    base, options = parse(name)
    if base in OWN:
        return canonical(name)
    said = ", ".join(f"{key}={value}" for key, value in options.items())
    return SPECS[base].title + (f" ({said})" if said else "")
