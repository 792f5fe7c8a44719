"""Make a detector of a network, and score images with it. No out-of-distribution image is needed.

    python -m common.detect fit RUN/checkpoint.pt --id shapes --held-out folder:mine --scorer react --out d.ood
    python -m common.detect fit timm:resnet50@mine.pth --id data/train --held-out data/val --scorer vim --out d.ood
    python -m common.detect score d.ood inbox 'more/*.jpg' list.txt --csv out.csv
    python -m common.detect show d.ood
    python -m common.detect export d.ood d.onnx

A score is larger for in-distribution; an image is accepted where it reaches the threshold that --held-out has set.
"""

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.cli import flags
from common.cli.commands import prog, step_of
from common.cli.errors import UserError, command
from common.cli.files import read_plain, sha256, write_atomically
from common.cli.recipes import given, ranged
from common.cli.steps import Step, add_step_arguments
from common.data.decoding import read
from common.data.listing import File, class_names
from common.data.own import read_own, split_folder
from common.data.specs import parse
from common.results.columns import formula
from common.scoring import saved
from common.scoring.detector import Detector
from common.scoring.files import files_of, judged
from common.scoring.given import images_of
from common.scoring.named import is_name

VERSION = 1  # raised when the same images and networks give another detector or other scores
COLUMNS = ("file", "class", "score", "accepted", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog("common.detect"), description=__doc__, formatter_class=flags.formatter)
    parts = made.add_subparsers(dest="what", required=True, metavar="fit | score | show | export")

    def part(name: str, said: str) -> argparse.ArgumentParser:
        about = f"{said[0].upper()}{said[1:]}."
        return parts.add_parser(name, help=said, description=about, formatter_class=flags.formatter)

    fit, score = part("fit", "make a detector of a network"), part("score", "score images with a detector")
    add_fit_arguments(fit)
    add_score_arguments(score)
    for one in (fit, score):
        one.add_argument("--batch-size", type=ranged(int, low=1), default=250, metavar="N", help="images a pass [250]")
        flags.add_data_argument(one)
        flags.add_device_argument(one)
        add_step_arguments(one)
    part("show", "say what a detector is of").add_argument("detector", type=Path, help="what fit has written")
    export = part("export", "write a detector as an ONNX model, normalisation, score and threshold in it, resizing not")
    export.add_argument("detector", type=Path, help="what fit has written")
    export.add_argument("onnx", type=Path, metavar="FILE", help="the model; what it says of itself is in its metadata")
    add_step_arguments(export)
    return made


def add_fit_arguments(fit: argparse.ArgumentParser) -> None:
    network = "a finished checkpoint.pt, timm:NAME@FILE or torchvision:NAME@FILE; without @FILE weights are fetched"
    fit.add_argument("network", metavar="NETWORK", help=network)
    said = "in-distribution training images: a folder or a set's name (its training split) [those of the checkpoint]"
    fit.add_argument("--id", metavar="FOLDER|SET", help=said)
    said = "in-distribution images that it was not trained on, for the threshold (a set's test split) [no threshold]"
    fit.add_argument("--held-out", metavar="FOLDER|SET", help=said)
    said = "share of the held-out images to accept [0.95]"
    fit.add_argument("--accept", type=ranged(float, low=0, high=1), default=0.95, metavar="P", help=said)
    fit.add_argument("--scorer", default="energy", metavar="NAME", help="the score, options as knn:k=50 [energy]")
    said = "names of the network's classes in the order of its outputs, a line each [class folders of --id, sorted]"
    fit.add_argument("--classes", type=Path, metavar="FILE", help=said)
    said = "at most N training images, classes as equal as can be [all; a checkpoint's own limit]"
    fit.add_argument("--limit", type=ranged(int, low=1), metavar="N", help=said)
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="the detector")


def add_score_arguments(score: argparse.ArgumentParser) -> None:
    score.add_argument("detector", type=Path, help="what fit has written")
    said = "image files, folders (with all below them), patterns in quotes, .txt lists of files"
    score.add_argument("images", nargs="+", metavar="IMAGES", help=said)
    out = f"a row an image: {', '.join(COLUMNS)}"
    score.add_argument("--csv", type=Path, required=True, metavar="FILE", help=out)
    said = "an image that does not decode: a row with its error, or stop [row]"
    score.add_argument("--on-corrupt", choices=("row", "stop"), default="row", help=said)


@dataclass(frozen=True)
class Fit:
    """What a detector is to be made of."""

    network: str
    id: str | None
    held_out: str | None
    accept: float
    scorer: str
    classes: Path | None
    limit: int | None
    out: Path
    data: Path
    device: str
    batch_size: int
    quiet: bool

    @property
    def inputs(self) -> list[Path]:
        file = self.network.partition("@")[2] if is_name(self.network) else self.network
        return [Path(one) for one in (file, self.classes) if one]


@dataclass(frozen=True)
class ToScore:
    """Which images a detector scores."""

    detector: Path
    images: list[str]
    csv: Path
    on_corrupt: str
    device: str
    batch_size: int
    quiet: bool


@dataclass(frozen=True)
class Export:
    """Which detector becomes which ONNX model."""

    detector: Path
    onnx: Path


def opened(wanted: Fit) -> Detector:
    """The detector that is to be fitted."""
    if not is_name(wanted.network):
        if wanted.classes is not None:
            raise UserError("--classes is for timm: and torchvision: networks; a checkpoint knows its classes")
        return Detector.from_checkpoint(wanted.network, wanted.scorer, device=wanted.device)
    if wanted.id is None:
        raise UserError(f"--id is required for {wanted.network}: a folder of its training images")
    names = named_in(wanted.classes) if wanted.classes else folders_of(wanted.id)
    return Detector.from_name(wanted.network, classes=names, scorer=wanted.scorer, device=wanted.device)


def named_in(path: Path) -> list[str]:
    try:
        return [line.strip() for line in read_plain(path).decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no list of names, a line each ({error.reason})") from error


def folders_of(place: str) -> list[str]:
    if place.startswith("list:"):
        if (raw := read_own(*parse(place), "train")).labels is None:
            raise UserError(f"--classes is required: {raw.unlabelled}")
        return list(raw.classes)
    folder = Path(place.removeprefix("folder:"))
    if not folder.is_dir():
        raise UserError(f"--classes is required: {place} is no folder whose class folders would name them")
    return class_names(split_folder(folder, "train") or folder)


def fit(wanted: Fit, step: Step) -> None:
    made = opened(wanted)
    if odd := [name for name in made.classes if formula(name)]:
        raise UserError(f"the class {odd[0]!r} must be {formula(odd[0])}")
    made.batch_size, made.progress, made.data = wanted.batch_size, not wanted.quiet, wanted.data
    if step.is_done(identity(made, wanted)):
        return
    made.fit(wanted.id, limit=wanted.limit)
    if wanted.held_out is None:
        print("no threshold: without --held-out images are scored, and none accepted or refused", file=sys.stderr)
    else:
        made.calibrate(wanted.held_out, wanted.accept)
    made.save(wanted.out)
    step.say(repr(made))


def identity(made: Detector, wanted: Fit) -> dict[str, Any]:
    """What decides the detector, as plain values (common.cli.steps)."""
    places = {"id": (wanted.id, "train"), "held_out": (wanted.held_out, "test")}
    digests = {
        name: place and images_of(place, made.transform, root=wanted.data, split=split).digest
        for name, (place, split) in places.items()
    }
    words = {key: value for key, value in made.facts.items() if key not in ("fitted", "calibrated", "versions")}
    said = {"command": "common.detect fit", "version": VERSION, "limit": wanted.limit, "accept": wanted.accept}
    return said | words | digests


def score(wanted: ToScore, step: Step) -> None:
    files = files_of(wanted.images)
    made = Detector.load(wanted.detector, device=wanted.device)
    made.batch_size = wanted.batch_size
    said = {"command": "common.detect score", "version": VERSION, "detector": sha256(wanted.detector)}
    if step.is_done(said | {"files": [[str(file), key_of(file)] for file in files], "on_corrupt": wanted.on_corrupt}):
        return
    found = list(judged(made, files, wanted.on_corrupt == "stop", not wanted.quiet))
    rows = [row_of(made, str(file), one) for file, one in found]
    write_atomically(wanted.csv, lambda part: write_csv(part, rows))
    broken = sum(isinstance(one, str) for _, one in found)
    accepted = sum(row[3] == "true" for row in rows)
    ends = "" if made.threshold is None else f", {accepted:,} of them accepted"
    step.say(f"{len(rows) - broken:,} images scored{ends}; {broken:,} could not be read: {wanted.csv}")


def export(wanted: Export, step: Step) -> None:
    made = Detector.load(wanted.detector, device="cpu")
    if step.is_done({"command": "common.detect export", "version": VERSION, "detector": sha256(wanted.detector)}):
        return
    made.export(wanted.onnx)
    outputs = "logits, score" if made.threshold is None else "logits, score, accepted"
    size = made.transform.size_px
    step.say(f"{wanted.onnx}: images (batch x 3 x {size} x {size}, RGB in [0, 1]) -> {outputs}")


def key_of(file: File) -> str:
    """Of its content; of one that cannot be read, why."""
    try:
        return hashlib.sha256(read(file)).hexdigest()
    except UserError as error:
        return str(error)


def row_of(made: Detector, file: str, found: tuple[int, float] | str) -> tuple[str, ...]:
    name = f"./{file}" if file.startswith(FORMULA) else file  # the same file, and no spreadsheet runs it as a formula
    if isinstance(found, str):
        return name, "", "", "", found
    accepted = "" if made.threshold is None else str(found[1] >= made.threshold).lower()
    return name, made.classes[found[0]], repr(found[1]), accepted, ""


def write_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def main() -> None:
    arguments = parser().parse_args()
    if arguments.what == "show":
        return print(json.dumps(saved.read(arguments.detector)[1], indent=1))
    kind, work = {"fit": (Fit, fit), "score": (ToScore, score), "export": (Export, export)}[arguments.what]
    wanted = kind(**given(arguments, kind))
    inputs = wanted.inputs if isinstance(wanted, Fit) else [wanted.detector]
    output = {Fit: "out", ToScore: "csv", Export: "onnx"}[kind]
    with step_of(arguments, [getattr(wanted, output)], inputs) as step:
        work(wanted, step)


if __name__ == "__main__":
    command(main, alone=True)
