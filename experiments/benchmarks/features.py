"""Peak memory and time of every score on training features that lie on disk.

    python experiments/benchmarks/features.py --train 1281167

The arrays are random, of the sizes given, and memory-mapped: only memory and time are measured here, never detection. Each score runs in a
process of its own; its peak is the process's anonymous memory (Linux), for pages of mapped files can be dropped whenever others need them.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from sys import stderr

import numpy as np
import torch  # noqa: F401  in every process from the start: KNN uses it, and its import is no part of a score
from harness import STATUS, apart, at_least, parser, pick_device, report

from common.cli.errors import UserError, command, unknown
from common.scorers import ALL, SCORERS
from common.scorers.arrays import Features, Head
from common.scorers.base import blocks

ODIN_NEED = SCORERS["odin"].needs[0]


def write_head(folder: Path, classes: int, channels: int) -> None:
    weight = 0.02 * np.random.default_rng(0).standard_normal((classes, channels), dtype=np.float32)
    weight[np.arange(classes), np.arange(classes) % channels] += 1
    np.save(folder / "head.npy", weight)


def write(folder: Path, images: int, seed: int) -> None:
    """Features of `images` random images, a strong unit a class, written block by block."""
    head = read_head(folder)
    classes, channels = head.weight.shape
    folder = folder / str(seed)
    folder.mkdir()
    rng, labels = np.random.default_rng(seed), np.arange(images) % classes
    widths = {"penultimate": channels, "logits": classes, "channel_maxima": 2 + channels}
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (images, width))
        for name, width in widths.items()
    }
    for part in blocks(images, 8 * channels):
        h = np.maximum(rng.standard_normal((len(labels[part]), channels), dtype=np.float32), 0)
        h[np.arange(len(h)), labels[part] % channels] += 4
        files["penultimate"][part], files["logits"][part] = h, h @ head.weight.T + head.bias
        files["channel_maxima"][part] = np.c_[np.full((len(h), 2), (1, channels)), h]
    np.save(folder / "block_norms.npy", rng.uniform(1, 2, (images, 16)).astype(np.float32))


def read_head(folder: Path) -> Head:
    weight = np.load(folder / "head.npy")
    return Head(weight, np.zeros(len(weight), np.float32))


def read(folder: Path, seed: int) -> Features:
    """What `write` wrote, mapped."""
    mapped = {path.stem: np.load(path, mmap_mode="r") for path in (folder / str(seed)).glob("*.npy")}
    norms = np.array(mapped["block_norms"])
    extras = {
        "channel_maxima": mapped["channel_maxima"], "block_norms": norms, "jigsaw_block_norms": norms[::-1],
        ODIN_NEED: norms[:, 0],
    }  # fmt: skip
    labels = np.arange(len(norms)) % mapped["logits"].shape[1]
    return Features(mapped["penultimate"], mapped["logits"], labels, extras)


def fit_and_score(name: str, folder: Path) -> Callable[[], tuple[float, float]]:
    """Seconds to fit and to score, once called."""
    train, test, head = read(folder, 1), read(folder, 2), read_head(folder)
    scorer = SCORERS[name] if name != "knn" else replace(SCORERS[name], k=min(50, len(train)))

    def run() -> tuple[float, float]:
        started = time.perf_counter()
        score = scorer.fit(train, head)
        fitted = time.perf_counter()
        score(test)
        return fitted - started, time.perf_counter() - fitted

    return run


def measure(name: str, folder: Path, progress: bool) -> list[str]:
    """A line of the table."""
    found = apart(fit_and_score, name, folder, anonymous=True)
    line = [name, *(f"{s:.1f}" for s in found.result), f"{found.peak / 1e6:.0f}"] if found else [name, "ended", "", ""]
    if progress:
        print(*line, file=stderr)
    return line


def main() -> None:
    made = parser(__file__, __doc__, device=False)
    made.add_argument(
        "--train", type=int, default=128_117, metavar="N", help="training images [128117, a tenth of ImageNet]"
    )
    made.add_argument("--test", type=int, default=500, metavar="N", help="images to score [500]")
    made.add_argument(
        "--channels", type=int, default=2048, metavar="C", help="width of the penultimate features [2048]"
    )
    made.add_argument("--classes", type=int, default=1000, metavar="K", help="classes [1000]")
    made.add_argument(
        "--scorers", nargs="+", default=list(ALL), metavar="NAME", help="which scores [one setting of every method]"
    )
    made.add_argument(
        "--folder", type=Path, default=None, help="where the arrays lie while it runs [the system's temporary folder]"
    )
    arguments = made.parse_args()
    n_train, n_test, channels, classes = arguments.train, arguments.test, arguments.channels, arguments.classes
    at_least(2, train=n_train, test=n_test, channels=channels, classes=classes)
    if n_train < classes:
        raise UserError(f"train must be at least classes ({classes}), got {n_train}")
    for name in arguments.scorers:
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
    if not STATUS.exists():
        raise UserError(f"peak memory is read from {STATUS}, which is not there; this benchmark needs Linux")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = Path(scratch)
        write_head(folder, classes, channels)
        write(folder, n_train, 1)
        write(folder, n_test, 2)
        stored = 4 * n_train * (channels + classes)
        lines = [measure(name, folder, progress=not arguments.quiet) for name in arguments.scorers]
    setting = f"{n_train:,} x {channels} training features, K = {classes}, {stored / 1e9:.2f} GB with logits"
    header = ["score", "fit, s", f"{n_test} images scored, s", "peak memory, MB"]
    report(setting, pick_device("cpu"), (header, lines))


if __name__ == "__main__":
    command(main)
