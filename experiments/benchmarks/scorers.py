"""All scores from one look at the images, against one network pass a detector: time and peak memory in one run.

    python experiments/benchmarks/scorers.py --backbone resnet34

Ours: one pass a set for what all scores need (ODIN adds its gradient pass, FeatureNorm its jigsawed pass), then arrays. The other way runs
the network again for each detector: pytorch-ood's detector where it has one (pip install pytorch-ood==0.4.0), else our score on a pass of its
own. Images and weights are random, labels the network's own: only time and memory are measured here, never detection.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common.backbones import BACKBONES, build, spec
from common.backbones.classifier import Classifier
from common.cli import flags, provenance
from common.cli.errors import UserError, command
from common.data.images import Images
from common.results.tables import markdown
from common.scorers import ALL, SCORERS
from common.scorers.arrays import Features, Head
from common.scoring.features import extract
from common.training.distributed import device_of

BATCH = 250


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


def loader(images: Images, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches as pytorch-ood wants them; decoding is no part of what is measured."""
    return [
        (p.to(device).float() / 255, y.to(device))
        for p, y in zip(images.pixels.split(BATCH), images.labels.split(BATCH), strict=True)
    ]


def peer_seconds(name: str, make: Callable[[], Any], train: Images, tests: list[Images], device: torch.device) -> float:
    """One detector, fitted where it fits, on every test set."""
    started, detector = time.perf_counter(), make()
    if getattr(detector, "requires_fit", True) and SCORERS[name].train_needs:
        detector.fit(loader(train, device))
    for images in tests:
        for batch, _ in loader(images, device):
            if name in ("odin", "gradnorm"):
                detector.predict(batch)
            else:
                with torch.no_grad():
                    detector.predict(batch)
    return time.perf_counter() - started


def ours_alone(name: str, model: Classifier, train: Images, tests: list[Images], device: torch.device) -> float:
    """Our score with a pass of its own, where the peer has no detector."""
    started = time.perf_counter()
    one_pass(model, [name], train, tests, device)
    return time.perf_counter() - started


def one_pass(
    model: Classifier, names: list[str], train: Images, tests: list[Images], device: torch.device
) -> dict[str, float]:
    """Seconds of the forward passes, and of each score, fit included."""
    scorers = {name: SCORERS[name] for name in names}
    if "knn" in scorers:  # k may not exceed the training images of a small run
        scorers["knn"] = replace(scorers["knn"], k=min(50, len(train)))
    started = time.perf_counter()
    get = lambda images, needs: extract(model, images, sorted(needs), batch_size=BATCH, device=device, progress=False)  # noqa: E731
    train_needs = {need for scorer in scorers.values() for need in scorer.train_needs}
    needs = {need for scorer in scorers.values() for need in scorer.needs}
    fitted_on = get(train, train_needs) if train_needs else None
    seen: list[Features] = [get(images, needs) for images in tests]
    seconds, head = {"forward": time.perf_counter() - started}, Head.of(model)
    for name, scorer in scorers.items():
        started = time.perf_counter()
        score = scorer.fit(fitted_on, head)
        for features in seen:
            score(features)
        seconds[name] = time.perf_counter() - started
    return seconds


def peak_mb(function: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Result and peak memory in MB: of the GPU where there is one, else of the process (Linux: reset before; elsewhere its highest so far)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return function(), torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        Path("/proc/self/clear_refs").write_text("5")
        result = function()
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return result, int(line.split()[1]) / 1000
    return function(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/scorers.py", description=__doc__, formatter_class=flags.formatter
    )
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
    flags.add_device_argument(made)
    return made


def main() -> None:
    arguments = parser().parse_args()
    device = device_of(arguments)
    gpu = device.type == "cuda"
    backbone = arguments.backbone or ("resnet34" if gpu else "resnet18")
    counts = {
        "train": arguments.train or (10_000 if gpu else 500),
        "id": arguments.id or (10_000 if gpu else 500),
        "ood": arguments.ood or (2_000 if gpu else 100),
    }
    if min(*counts.values(), arguments.sets, arguments.classes) < 1 or counts["train"] < 2 * arguments.classes:
        raise UserError(
            f"counts must be >= 1, and train at least twice the classes, got {counts}, {arguments.sets} sets, {arguments.classes} classes"
        )
    torch.manual_seed(0)
    size = spec(backbone).image_size
    model = build(backbone, arguments.classes).to(device).eval()
    train = random_images("train", counts["train"], size, arguments.classes, 0)
    tests = [random_images("id", counts["id"], size, arguments.classes, 1)]
    tests += [random_images(f"ood{k}", counts["ood"], size, arguments.classes, 2 + k) for k in range(arguments.sets)]
    train = spread_predictions(model, train, device)
    one_pass(model, ["msp"], train, tests[1:2], device)  # warm-up
    plain = [name for name in ALL if name != "odin"]
    with_odin, our_mb = peak_mb(lambda: one_pass(model, list(ALL), train, tests, device), device)
    without = one_pass(model, plain, train, tests, device)
    forward = one_pass(model, ["msp", "mahalanobis"], train, tests, device)["forward"]  # every set once, nothing more
    found, times, peer_peak = peers(model), {}, 0.0
    for name in ALL:
        run = (
            (lambda n=name: peer_seconds(n, found[n], train, tests, device))
            if name in found
            else (lambda n=name: ours_alone(n, model, train, tests, device))
        )
        try:
            times[name], mb = peak_mb(run, device)
        except Exception as error:  # a detector that fails is left out of its side's time, and said
            print(
                f"pytorch-ood's {name} failed and is left out: {type(error).__name__}: {str(error)[:100]}",
                file=sys.stderr,
            )
            continue
        peer_peak = max(peer_peak, mb)
        print(
            f"{name}: {times[name]:.2f} s {'(pytorch-ood)' if name in found else '(ours, a pass of its own)'}",
            file=sys.stderr,
        )
    print(
        text(
            backbone,
            size,
            counts,
            arguments.sets,
            device,
            with_odin,
            without,
            forward,
            times,
            found,
            (our_mb, peer_peak),
        )
    )


def text(backbone, size, counts, sets, device, with_odin, without, forward, times, found, peaks) -> str:
    ours, plain = sum(with_odin.values()), sum(without.values())
    theirs = sum(times.values())
    scoring = {name: seconds for name, seconds in with_odin.items() if name != "forward"}
    head = (
        f"{backbone}, {size} px, {counts['train']} training + {counts['id']} ID + {sets} x {counts['ood']} OOD images, {provenance.hardware(device)}\n"
        f"{len(times)} detectors, {sum(name in found for name in times)} of them pytorch-ood's; a plain forward pass over all sets: {forward:.2f} s\n"
    )
    table = [
        ["all scores", f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}"],
        [
            "all but ODIN",
            f"{plain:.2f}",
            f"{theirs - times.get('odin', 0):.2f}",
            f"{(theirs - times.get('odin', 0)) / plain:.1f}",
        ],
        ["peak memory, MB", f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{peaks[1] / peaks[0]:.2f}"],
    ]
    each = sorted(scoring.items(), key=lambda pair: -pair[1])
    lines = [
        [name, f"{1000 * seconds:.1f}", f"{100 * seconds / forward:.2f}", f"{times.get(name, float('nan')):.2f}"]
        for name, seconds in each
    ]
    total = sum(scoring.values())
    lines.append(["all", f"{1000 * total:.1f}", f"{100 * total / forward:.2f}", f"{theirs:.2f}"])
    return "\n".join(
        [
            head, markdown(["", "ours, s", "a pass a detector, s", "ratio"], table), "",
            markdown(["score", "ours from arrays, ms", "% of the forward pass", "a pass of its own, s"], lines),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
