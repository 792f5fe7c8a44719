"""All scores from one look at the images, against one network pass a detector: time and peak memory in one run.

    python experiments/benchmarks/scorers.py --backbone resnet34

Ours: one pass a set for what all scores need (ODIN adds its gradient pass, FeatureNorm its jigsawed pass), then arrays. The other way runs
the network again for each detector: pytorch-ood's detector where it has one (pip install pytorch-ood==0.4.0), else our score on a pass of its
own. Each side runs in a fresh process, in turn. Images and weights are random, labels the network's own: only time and memory are measured
here, never detection.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import torch
from harness import Apart, Table, apart, at_least, extent, parser, pick_device, ratios, report, synchroniser, timed

from common.backbones import BACKBONES, build, spec
from common.backbones.classifier import Classifier
from common.cli.errors import UserError, command
from common.data.images import Images
from common.scorers import ALL, SCORERS, Head, Scorer
from common.scoring.features import extract
from common.scoring.sets import Line, Scored, Scores, score_sets

BATCH = 250


@dataclass(frozen=True)
class Setting:
    """Sizes; `ood` images in each of `sets` sets."""

    backbone: str
    classes: int
    train: int
    id: int
    ood: int
    sets: int
    device: str
    progress: bool


@dataclass(frozen=True)
class World:
    """The network and the images that both sides see: those to fit on, and the test sets."""

    model: Classifier
    train: Images
    tests: list[Images]
    device: torch.device


def world(setting: Setting) -> World:
    """The same for the same setting; warmed up."""
    torch.manual_seed(0)
    device, size = pick_device(setting.device), spec(setting.backbone).image_size
    model = build(setting.backbone, setting.classes).to(device).eval()
    counts = [setting.train, setting.id] + [setting.ood] * setting.sets
    train, *tests = (random_images(f"set {k}", n, size, setting.classes, k) for k, n in enumerate(counts))
    made = World(model, spread_predictions(model, train, device), tests, device)
    one_pass(replace(made, tests=tests[1:2]), ["msp"])
    return made


def random_images(name: str, count: int, size: int, classes: int, seed: int) -> Images:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 3, size, size), generator=draw, dtype=torch.uint8)
    return Images(name, pixels, torch.arange(count) % classes)


@torch.no_grad()
def spread_predictions(model: Classifier, train: Images, device: torch.device) -> Images:
    """The training images labelled by the network, whose head is moved so that every class is predicted: SHE fits on what is classified rightly."""
    batches = [batch.to(device).float() / 255 for batch in train.pixels.split(BATCH)]
    pooled = torch.cat([model.pool(model.feature_map(batch)) for batch in batches])
    spread = (pooled - pooled.mean(0)) / pooled.std(0).clamp_min(1e-6)
    model.head.weight.copy_(torch.eye(model.classes, model.channels, device=device) / pooled.std(0).clamp_min(1e-6))
    model.head.bias.copy_(-(model.head.weight @ pooled.mean(0)))
    return replace(train, labels=spread[:, : model.classes].argmax(1).cpu(), digest="")


def one_pass(world: World, names: Sequence[str]) -> dict[str, float]:
    """Seconds of the forward passes, and of each score from their arrays as commands compute it: fit, scores, metrics."""
    scorers = {name: SCORERS[name] for name in names}
    if "knn" in scorers:  # k may not exceed the training images of a small run
        scorers["knn"] = replace(scorers["knn"], k=min(50, len(world.train)))
    train_needs = sorted({need for scorer in scorers.values() for need in scorer.train_needs})
    needs = sorted({need for scorer in scorers.values() for need in scorer.needs})

    def look() -> Scored:
        get = partial(extract, world.model, batch_size=BATCH, device=world.device, progress=False)
        train = get(world.train, train_needs) if train_needs else None
        inside, *outside = (get(images, needs) for images in world.tests)
        return Scored(train, Head.of(world.model), inside, {f"set {k}": found for k, found in enumerate(outside)})

    def score(line: Line, scorer: Scorer) -> Scores:
        return score_sets(scored, scored.fit({line: scorer}))

    settle = synchroniser(world.device)
    forward, scored = timed(look, settle)
    lines = {name: partial(score, Line("", name, repr(scorer)), scorer) for name, scorer in scorers.items()}
    return {"forward": forward} | {name: timed(one, settle)[0] for name, one in lines.items()}


def ours(setting: Setting) -> Callable[[], dict[str, dict[str, float]]]:
    """Called in a process of its own: what is left to run is our side."""
    made, plain = world(setting), [name for name in ALL if name != "odin"]
    return lambda: {
        "all": one_pass(made, ALL), "all but ODIN": one_pass(made, plain),
        "every set once, nothing more": one_pass(made, ["msp", "mahalanobis"]),
    }  # fmt: skip


def theirs(setting: Setting) -> Callable[[], tuple[dict[str, float], int]]:
    """Called in a process of its own: what is left to run is a pass a detector: seconds of each, and how many are pytorch-ood's.

    A detector that fails is left out, and said.
    """
    made = world(setting)
    detectors = peers(made.model)

    def run() -> tuple[dict[str, float], int]:
        seconds = {}
        for name in ALL:
            peer = (
                partial(detect, name, detectors[name], made) if name in detectors else partial(one_pass, made, [name])
            )
            try:
                seconds[name], _ = timed(peer, synchroniser(made.device))
            except Exception as error:
                print(f"{name} failed and is left out: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
                continue
            if setting.progress:
                whose = "pytorch-ood" if name in detectors else "ours, a pass of its own"
                print(f"{name}: {seconds[name]:.2f} s ({whose})", file=sys.stderr)
        return seconds, len(seconds.keys() & detectors.keys())

    return run


def peers(model: Classifier) -> dict[str, Callable[[], Any]]:
    """pytorch-ood's detectors by our names; empty where it is not installed."""
    try:
        from pytorch_ood import detector as theirs
    except ImportError:
        return {}
    encoder = lambda images: model.pool(model.feature_map(images))  # noqa: E731
    after = lambda maps: model.head(model.pool(maps))  # noqa: E731
    weight, bias = model.head.weight.detach(), model.head.bias.detach()
    dimension = min(model.channels // 2, 512)
    on_maps = {"backbone": model.feature_map, "head": after}
    return {
        "msp": lambda: theirs.MaxSoftmax(model), "maxlogit": lambda: theirs.MaxLogit(model), "energy": lambda: theirs.EnergyBased(model),
        "odin": lambda: theirs.ODIN(model), "mahalanobis": lambda: theirs.Mahalanobis(encoder), "rmd": lambda: theirs.RMD(encoder),
        "vim": lambda: theirs.ViM(encoder, d=dimension, w=weight, b=bias), "dice": lambda: theirs.DICE(encoder, w=weight, b=bias, p=0.9),
        "react": lambda: theirs.ReAct(**on_maps), "knn": lambda: theirs.KNN(encoder), "klm": lambda: theirs.KLMatching(model),
        "gradnorm": lambda: theirs.GradNorm(model, param_filter=lambda name: name.startswith("head")),
        "ash-s": lambda: theirs.ASH(**on_maps, variant="ash-s"), "ash-b": lambda: theirs.ASH(**on_maps, variant="ash-b"),
        "ash-p": lambda: theirs.ASH(**on_maps, variant="ash-p"), "scale": lambda: theirs.SCALE(**on_maps),
        "she": lambda: theirs.SHE(encoder, model.head), "gen": lambda: theirs.GEN(model), "fdbd": lambda: theirs.fDBD(encoder, model.head),
    }  # fmt: skip


def detect(name: str, make: Callable[[], Any], world: World) -> None:
    """One detector of pytorch-ood, fitted where it fits, on every test set."""
    detector = make()
    if getattr(detector, "requires_fit", True) and SCORERS[name].train_needs:
        detector.fit(batches(world.train, world.device))
    for images in world.tests:
        for batch, _ in batches(images, world.device):
            with nullcontext() if name in ("odin", "gradnorm") else torch.no_grad():
                detector.predict(batch)


def batches(images: Images, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """As pytorch-ood wants them; decoding is no part of what is measured."""
    parts = zip(images.pixels.split(BATCH), images.labels.split(BATCH), strict=True)
    return [(pixels.to(device).float() / 255, labels.to(device)) for pixels, labels in parts]


def run_apart(side: Callable, setting: Setting) -> Apart:
    if (found := apart(side, setting, device=setting.device)) is None:
        raise UserError(
            f"the process of {side.__name__!r} ended before its answer: too little memory, say; try smaller sets"
        )
    return found


def compared(name: str, ours: Sequence[float], theirs: Sequence[float], decimals: int) -> list[str]:
    """A line: medians over rounds, median and range of the rounds' ratios."""
    ratio = ratios({"ours": ours, "theirs": theirs}, "ours")["theirs"]
    middle = (f"{np.median(values):.{decimals}f}" for values in (ours, theirs))
    return [name, *middle, f"{np.median(ratio):.2f}", extent(ratio, 2)]


def tables(ours: list[Apart], theirs: list[Apart]) -> tuple[Table, Table]:
    """Both sides beside each other, and each score; numbers are medians over rounds."""
    detectors = [found.result[0] for found in theirs]
    totals = [sum(seconds.values()) for seconds in detectors]
    plain = [sum(seconds.values()) - seconds.get("odin", 0) for seconds in detectors]
    whole = [
        compared("all scores, s", [sum(found.result["all"].values()) for found in ours], totals, 2),
        compared("all but ODIN, s", [sum(found.result["all but ODIN"].values()) for found in ours], plain, 2),
        compared("peak memory, MB", [found.peak / 1e6 for found in ours], [found.peak / 1e6 for found in theirs], 0),
    ]
    forward = forward_seconds(ours)
    fast = {name: np.median([found.result["all"][name] for found in ours]) for name in ALL}
    slow = {name: np.median([seconds[name] for seconds in detectors]) for name in detectors[0]}
    fast, slow = {**fast, "all": sum(fast.values())}, {**slow, "all": sum(slow.values())}
    each = [
        [name, f"{1e3 * fast[name]:.1f}", f"{100 * fast[name] / forward:.2f}", f"{slow.get(name, float('nan')):.2f}"]
        for name in sorted(fast, key=lambda name: (name == "all", -fast[name]))
    ]
    return (
        (["", "ours", "a pass a detector", "ratio", "range over rounds"], whole),
        (["score", "ours from arrays, ms", "% of the forward pass", "a pass of its own, s"], each),
    )


def forward_seconds(ours: list[Apart]) -> float:
    return float(np.median([found.result["every set once, nothing more"]["forward"] for found in ours]))


def title(setting: Setting, ours: list[Apart], theirs: list[Apart]) -> str:
    seconds, peers = theirs[0].result
    version = f" ({metadata.version('pytorch-ood')})" if peers else ""
    return (
        f"{setting.backbone}, {spec(setting.backbone).image_size} px, {setting.train} training + {setting.id} ID + {setting.sets} x {setting.ood} OOD images, "
        f"{len(ours)} rounds\n{len(seconds)} detectors, {peers} of them pytorch-ood's{version}; a plain forward pass over all sets: {forward_seconds(ours):.2f} s"
    )


def add_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--backbone", default=None, help=f"{', '.join(BACKBONES)} or timm:NAME [resnet34 on a GPU, resnet18 on a CPU]"
    )
    made.add_argument("--classes", type=int, default=10, help="K [10]")
    made.add_argument(
        "--train", type=int, default=None, metavar="N", help="ID training images [10,000 on a GPU, 500 on a CPU]"
    )
    made.add_argument("--id", type=int, default=None, metavar="N", help="ID test images [10,000; 500]")
    made.add_argument("--ood", type=int, default=None, metavar="N", help="images of each OOD set [2,000; 100]")
    made.add_argument("--sets", type=int, default=6, metavar="N", help="OOD sets [6]")


def main() -> None:
    made = parser(__file__, __doc__, rounds=1)
    add_arguments(made)
    arguments = made.parse_args()
    device = pick_device(arguments.device)
    backbone, *default = ("resnet34", 10_000, 10_000, 2_000) if device.type == "cuda" else ("resnet18", 500, 500, 100)
    asked = (arguments.train, arguments.id, arguments.ood)
    counts = [few if given is None else given for given, few in zip(asked, default, strict=True)]
    rest = (arguments.sets, str(device), not arguments.quiet)
    setting = Setting(arguments.backbone or backbone, arguments.classes, *counts, *rest)
    at_least(1, id=setting.id, ood=setting.ood, sets=setting.sets, classes=setting.classes, rounds=arguments.rounds)
    at_least(2 * setting.classes, train=setting.train)
    sides = [(run_apart(ours, setting), run_apart(theirs, setting)) for _ in range(arguments.rounds)]
    our_side, their_side = (list(side) for side in zip(*sides, strict=True))
    report(title(setting, our_side, their_side), device, *tables(our_side, their_side))


if __name__ == "__main__":
    command(main)
