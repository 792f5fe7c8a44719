"""Peak memory and time of every score on training features that lie on disk.

    python experiments/benchmarks/features.py --train 1281167

The arrays are random, of the sizes given, and memory-mapped: only memory and time are measured here, never detection. Each score runs in a
process of its own; its peak is the process's anonymous memory (Linux), for pages of mapped files can be dropped whenever others need them.
"""

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.cli import flags, provenance
from common.cli.errors import UserError, command
from common.results.tables import markdown
from common.scorers import ALL, SCORERS
from common.scorers.arrays import Features, Head
from common.scorers.base import blocks

ODIN_NEED = SCORERS["odin"].needs[0]


def mapped(folder: Path, images: int, head: Head, seed: int) -> Features:
    """Features of `images` random images, a strong unit a class, written block by block."""
    classes, channels = head.weight.shape
    rng, labels = np.random.default_rng(seed), np.arange(images) % classes
    widths = {"penultimate": channels, "logits": classes, "channel_maxima": 2 + channels}
    files = {
        name: np.lib.format.open_memmap(folder / f"{seed}-{name}.npy", "w+", np.float32, (images, width))
        for name, width in widths.items()
    }
    for part in blocks(images, 8 * channels):
        h = np.maximum(rng.standard_normal((len(labels[part]), channels), dtype=np.float32), 0)
        h[np.arange(len(h)), labels[part] % channels] += 4
        files["penultimate"][part], files["logits"][part] = h, h @ head.weight.T + head.bias
        files["channel_maxima"][part] = np.c_[np.full((len(h), 2), (1, channels)), h]
    norms = rng.uniform(1, 2, (images, 16)).astype(np.float32)
    extras = {
        "channel_maxima": files["channel_maxima"],
        "block_norms": norms,
        "jigsaw_block_norms": norms[::-1],
        ODIN_NEED: norms[:, 0],
    }
    return Features(files["penultimate"], files["logits"], labels, extras)


def anonymous_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1000


def measure(name: str, train: Features, test: Features, head: Head, answer) -> None:
    """In a child: seconds to fit, seconds to score, peak MB, sampled every 5 ms."""
    peak, done = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    scorer = SCORERS[name] if name != "knn" else replace(SCORERS[name], k=min(50, len(train)))
    started = time.perf_counter()
    score = scorer.fit(train, head)
    fitted = time.perf_counter()
    score(test)
    seconds = fitted - started, time.perf_counter() - fitted
    done.set()
    watcher.join()
    answer.send((*seconds, peak[0]))


def in_a_process(*given) -> tuple[float, float, float] | None:
    """None where the process was ended from outside, which is what running out of memory looks like."""
    context = multiprocessing.get_context("fork")  # the mapped arrays are shared, nothing is pickled
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(*given, theirs))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return None
    finally:
        child.join()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python experiments/benchmarks/features.py", description=__doc__, formatter_class=flags.formatter
    )
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
    return made


def main() -> None:
    arguments = parser().parse_args()
    sizes = (arguments.train, arguments.test, arguments.channels, arguments.classes)
    if min(sizes) < 2 or arguments.train < arguments.classes:
        raise UserError(f"sizes must be >= 2 and train at least classes, got train, test, channels, classes = {sizes}")
    if not Path("/proc/self/status").exists():
        raise UserError("peak memory is read from /proc/self/status, which is not there; this benchmark needs Linux")
    rng = np.random.default_rng(0)
    weight = 0.02 * rng.standard_normal((arguments.classes, arguments.channels), dtype=np.float32)
    weight[np.arange(arguments.classes), np.arange(arguments.classes) % arguments.channels] += 1
    head, rows = Head(weight, np.zeros(arguments.classes, np.float32)), []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        train, test = mapped(Path(folder), arguments.train, head, 1), mapped(Path(folder), arguments.test, head, 2)
        stored = sum(array.nbytes for array in (train.penultimate, train.logits))
        print(
            f"{arguments.train:,} x {arguments.channels} training features, K = {arguments.classes}, {stored / 1e9:.2f} GB with logits, {provenance.hardware(torch.device('cpu'))}\n"
        )
        for name in arguments.scorers:
            found = in_a_process(name, train, test, head)
            rows.append(
                [name, *(f"{value:.1f}" for value in found[:2]), f"{found[2]:.0f}"]
                if found
                else [name, "ended", "", ""]
            )
            print(*rows[-1], file=sys.stderr)
    print(markdown(["score", "fit, s", f"{arguments.test} images scored, s", "peak memory, MB"], rows))


if __name__ == "__main__":
    command(main)
