"""Make a finished checkpoint of this suite, head included, of anybody's trained classifier; every command then takes it.

    python -m common.convert resnet20.th --backbone resnet20 --classes cifar10 --out runs/resnet20
    python -m common.convert best.ckpt --backbone timm:resnet26d --classes cat dog owl --id folder:photos --out runs/photos

FILE: a state dict, plain or in a training checkpoint (PyTorch, Lightning), .safetensors, Google's BiT .npz, or this suite's own; or "hub", to let timm or
torchvision fetch theirs. Wrappers before names (module., _orig_mod., model., backbone., ...) and names of other public code are undone, and all that was
renamed or left out is printed. What does not fit whole is refused. Only tensors and plain values are unpickled.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.backbones import Classifier, build, spec
from common.backbones.classifier import Normalise, Stats
from common.backbones.convertible import became, check_pooling, head_of, stats_in
from common.backbones.weights import load_body, put_head, read_weights
from common.checkpoint import FORMAT, OLDER, load_finished, save
from common.cli.commands import parser as command_parser
from common.cli.commands import step_of
from common.cli.errors import UserError, command
from common.cli.files import sha256
from common.cli.flags import add_data_argument
from common.cli.recipes import ranged
from common.data import shapes
from common.data.datasets import read
from common.data.formats import listed
from common.data.listing import is_text
from common.data.own import OWN
from common.data.specs import SPECS, canonical, spec_of
from common.data.transforms import default_transform
from common.results.columns import formula
from common.training.start import STATS

VERSION = 1  # raised when the same file gives another checkpoint
UNKNOWN = "unknown"  # the digest of images that nobody wrote down


@dataclass(frozen=True)
class Said:
    """What the flags say of the file. None, "" and (): not said."""

    backbone: str
    classes: tuple[str, ...] = ()
    id_set: str = ""
    stats: Stats | None = None
    size_px: int | None = None
    key: str = ""
    head: str = ""


def parser() -> argparse.ArgumentParser:
    made = command_parser("common.convert", __doc__, add_data_argument)
    made.add_argument("file", metavar="FILE", help='of a trained classifier, or "hub"')
    made.add_argument(
        "--backbone",
        required=True,
        metavar="NAME",
        help="a name of common.pretrain --backbone, timm:NAME or torchvision:NAME",
    )
    said = "names in the order of its outputs, a text file of one a line, or the set whose classes they are [this suite's own file: its own]"
    made.add_argument("--classes", nargs="+", default=[], metavar="NAME", help=said)
    made.add_argument("--id", default="", metavar="SET", help="the in-distribution set [that of --classes]")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoint.pt")
    for name, what in (("mean", "subtracted from"), ("std", "that then divides")):
        said = f"{what} an image in [0, 1], for red, green and blue [those in the file, else the network's, else customary for the set]"
        made.add_argument(f"--{name}", nargs=3, type=ranged(float, low=0), default=None, metavar="X", help=said)
    made.add_argument(
        "--image-size", type=ranged(int, low=8), default=None, metavar="PX", help="side of the images [the network's]"
    )
    made.add_argument("--key", default="", help="where in the file the weights are, as in ema or callbacks.ema [found]")
    made.add_argument(
        "--head", default="", metavar="NAME", help="its last linear layer, where several could be it [found]"
    )
    made.add_argument(
        "--method", default="pre-trained", metavar="NAME", help="what rows of results call it [pre-trained]"
    )
    made.add_argument("--seed", type=ranged(int, low=0), default=0, help="of its training, for tables over seeds [0]")
    return made


# --- what is said ----------------------------------------------------------------------------------------------------------------------


def said_by(given: dict[str, Any]) -> Said:
    """The flags by name, checked. Raises UserError that names the one that cannot be."""
    words, root = list(given["classes"]), given["data"]
    named = words[0] if len(words) == 1 else ""
    is_set = bool(named) and (named.partition(":")[0] in (*SPECS, *OWN) or named.startswith("shapes"))
    id_set = canonical(given["id"] or (named if is_set else ""))
    if id_set and not has_classes(id_set):
        raise UserError(f"--id {id_set} has no classes to be in-distribution")
    classes = classes_of(canonical(named), root) if is_set else names_in(words)
    if words and not id_set:
        raise UserError("--id SET must name the in-distribution set, for --classes gives names alone")
    if (given["mean"] is None) != (given["std"] is None):
        raise UserError("--mean and --std go together: give both, or neither")
    if given["std"] and min(given["std"]) <= 0:
        raise UserError(f"--std must be above 0, got {min(given['std']):g}")
    if wants := formula(given["method"]) or ("" if is_text(given["method"]) and given["method"].strip() else "text"):
        raise UserError(f"--method must be {wants}, got {given['method']!r}")
    stats = (tuple(given["mean"]), tuple(given["std"])) if given["mean"] else None
    return Said(given["backbone"], classes, id_set, stats, given["image_size"], given["key"], given["head"])


def has_classes(name: str) -> bool:
    """Whether a set can be the in-distribution one. Raises UserError for one that nobody knows, options included."""
    if name.startswith("shapes"):
        return shapes.parse(name)[0] == "shapes"
    return spec_of(name).role in ("id", "id or ood")


def classes_of(name: str, root: Path) -> tuple[str, ...]:
    """The classes of a set, by its test split."""
    if name.startswith("shapes"):
        return tuple(shapes.CLASSES)
    raw = read(name, "test", root)
    if raw.labels is None:
        raise UserError(f"--classes {name}: {raw.unlabelled or 'it has no labels'}; give the names")
    return tuple(raw.classes)


def names_in(words: list[str]) -> tuple[str, ...]:
    """Words, or the lines of a text file, or words between commas."""
    if len(words) == 1 and Path(words[0]).is_file():
        try:
            names = Path(words[0]).read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError:
            raise UserError(f"{words[0]} is not a text file of class names, one a line") from None
        names = [line.strip() for line in names if line.strip()]
    else:
        names = [part.strip() for part in words[0].split(",")] if len(words) == 1 and "," in words[0] else words
    if words and len(names) < 2:
        raise UserError(
            f"--classes {words[0]} is no set and no file; expected a set ({', '.join(list(SPECS)[:3])}, ...), a text file or two names or more"
        )
    if odd := [name for name in names if not name.strip() or not is_text(name)]:
        raise UserError(f"--classes holds {odd[0]!r}, which is no name")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--classes names {twice[0]!r} twice; expected a name for each output")
    return tuple(names)


# --- what is made ----------------------------------------------------------------------------------------------------------------------


def contents(file: str, key: str) -> Any:
    """What lies in a file under `key`; None for a file that is not a dictionary of tensors (Google's, the hub)."""
    if file == "hub" or Path(file).suffix == ".npz":
        if key:
            raise UserError(f"--key {key}: {file} has no keys")
        return None
    content = read_weights(Path(file))
    for word in filter(None, key.split(".")):
        if not isinstance(content, dict) or not isinstance(content.get(word), dict):
            known = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else "no keys"
            raise UserError(f"{file} has nothing under --key {key}; there are {known}")
        content = content[word]
    return content


def converted(file: str, said: Said) -> tuple[Classifier, Said, list[str]]:
    """The network with all weights of the file, what is known of it now, and lines that say what became of the tensors."""
    content = contents(file, said.key)
    if isinstance(content, dict) and content.get("format") in (FORMAT, OLDER):
        return of_ours(file, said)
    if not said.classes:
        raise UserError(f"--classes must name what the outputs of {file} are, or the set whose classes they are")
    made = spec(said.backbone)
    side_px = said.size_px or made.image_size
    model = build(said.backbone, len(said.classes), image_size=side_px)
    fit = load_body(model, said.backbone, file, content, head=True)
    head, *tensors = head_of(fit, model, said.head)
    put_head(model, *tensors)
    check_pooling(model, side_px)
    stats, whence = stats_of(file, said, stats_in(fit), made.stats)
    model.normalise = Normalise(stats)
    return model, replace(said, stats=stats, size_px=side_px), [*became(fit, model, head), normalised(stats, whence)]


def of_ours(file: str, said: Said) -> tuple[Classifier, Said, list[str]]:
    """A finished checkpoint of this suite: what it says of itself stands. Raises UserError where the flags say otherwise."""
    model, facts = load_finished(file)
    names = tuple(facts["classes"])
    if model.name != said.backbone:
        raise UserError(f"{file} is a checkpoint of {model.name}, not of {said.backbone}")
    if facts["extra_classes"]:
        raise UserError(f"{file} has a background class; dfb.evaluate scores it as it is")
    if said.classes and said.classes != names:
        raise UserError(f"{file} names its classes {listed(names)}; --classes names {listed(said.classes)}")
    if said.stats:
        model.normalise = Normalise(said.stats)
    stats = tuple(model.normalise.mean.flatten().tolist()), tuple(model.normalise.std.flatten().tolist())
    lines = [
        f"{file}: a checkpoint of this suite, all its tensors kept",
        normalised(stats, "--mean, --std" if said.stats else "the file"),
    ]
    size_px = said.size_px or facts["transform"]["size_px"]
    return (
        model,
        replace(said, classes=names, id_set=said.id_set or facts["id_set"], stats=stats, size_px=size_px),
        lines,
    )


def stats_of(file: str, said: Said, found: Stats | None, usual: Stats | None) -> tuple[Stats, str]:
    """What the network normalises by, and who says so. Raises UserError where nobody does."""
    of_set = STATS.get(said.id_set.partition(":")[0])
    for stats, whence in (
        (said.stats, "--mean, --std"), (found, "the file"), (usual, f"usual for {said.backbone}"),
        (of_set, f"usual for {said.id_set}, a guess: the file does not say; --mean and --std do"),
    ):  # fmt: skip
        if stats:
            return stats, whence
    raise UserError(f"nothing says what {file} normalises by: give --mean R G B --std R G B, of images in [0, 1]")


def normalised(stats: Stats, whence: str) -> str:
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in stats)
    return f"normalised by mean {mean}, std {std} ({whence})"


def main() -> None:
    arguments = parser().parse_args()
    file, path = arguments.file, arguments.out / "checkpoint.pt"
    with step_of(arguments, [path], [] if file == "hub" else [Path(file)], run=arguments.out) as step:
        said = said_by(vars(arguments))
        source = "hub" if file == "hub" else Path(file).name
        digest = "" if file == "hub" or not Path(file).is_file() else sha256(Path(file))
        words = {"source": source, "file": digest, "method": arguments.method, "seed": arguments.seed} | asdict(said)
        if not step.is_done({"command": "common.convert", "version": VERSION} | words):
            model, known, lines = converted(file, said)
            transform = default_transform(known.id_set, known.size_px)
            step.say("\n".join([*lines, f"images: {', '.join(f'{k} {v}' for k, v in transform.facts().items())}"]))
            save(
                path, model, recipe={"converted_from": source, "file_sha256": digest}, method=arguments.method, id_set=known.id_set,
                classes=list(known.classes), transform=transform.facts(), seed=arguments.seed, train_data_sha256=UNKNOWN, limit=None,
                start=source,
            )  # fmt: skip
    print(path)


if __name__ == "__main__":
    command(main)
