"""Commands killed (kill -9) at random moments and typed again until they are done: is what they leave that of an undisturbed run?

    python tests/kills.py --kills 200 --seed 1

Pre-training, LBF, masks, dense training, evaluation with a cache, DFB's evaluation, the table and the page, on a few small images, saved at every step.
Compared are the tensors and what the checkpoints say, and the bytes of masks, scores, features, tables and page; left out are what a second run on the same machine would not share
either: seconds, and the digests of files that hold them. Exit code 1 where something differs, is left behind, or a command typed again does not end well.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from robustness import cases, processes, world  # noqa: E402
from robustness.world import QUIET, SIDE  # noqa: E402

TRAIN = ("--epochs", 2, "--batch-size", 4, "--save-every", 0, *QUIET)
SCORE = ("--ood", "folder:ood", "--cache", "cache", "--scorers", "msp", "energy", "knn:k=2", *QUIET)
# A name, what is typed, and what it leaves
STEPS: tuple[tuple[str, tuple[Any, ...], tuple[str, ...]], ...] = (
    ("pre-training", ("common.pretrain", "shapes", "--id", "folder:photos", "--backbone", "resnet8", "--image-size", SIDE, "--out", "pre", *TRAIN),
     ("pre/checkpoint.pt", "pre/log.jsonl", "pre/recipe.json")),
    ("LBF", ("lbf.finetune", "pre/checkpoint.pt", "--preset", "shapes", "--out", "lbf", *TRAIN), ("lbf/checkpoint.pt", "lbf/log.jsonl", "lbf/recipe.json")),
    ("masks", ("dfb.masks", "pre/checkpoint.pt", "--out", "masks", *QUIET), ("masks/manifest.json", "masks/part-00000.npz")),
    ("dense training", ("dfb.finetune", "pre/checkpoint.pt", "--preset", "shapes", "--masks", "masks", "--out", "dfb", *TRAIN),
     ("dfb/checkpoint.pt", "dfb/log.jsonl", "dfb/recipe.json")),
    ("evaluation", ("common.evaluate", "lbf/checkpoint.pt", *SCORE), ("lbf/results.csv", "lbf/results.npz")),
    ("DFB's evaluation", ("dfb.evaluate", "dfb/checkpoint.pt", "--vanilla", "pre/checkpoint.pt", *SCORE), ("dfb/results.csv", "dfb/results.npz")),
    ("table", ("common.tables", "lbf/results.csv", "dfb/results.csv", "--out", "table.md", "--latex", "table.tex"), ("table.md", "table.tex")),
    ("page", ("common.report", "lbf", "--out", "page.html", "--limit", 6, *QUIET), ("page.html",)),
)  # fmt: skip


def left(path: Path) -> Any:
    """What a file holds, without seconds, and what follows from them."""
    if path.suffix == ".pt":
        found = torch.load(path, weights_only=True)
        facts = {name: value for name, value in found["facts"].items() if name != "seconds"}
        return found["sha256"]["weights"], found["sha256"]["objective"], found["recipe"], facts, found["training"]
    if path.name == "log.jsonl":
        return [
            {name: value for name, value in json.loads(line).items() if name != "seconds"}
            for line in path.read_text().splitlines()
        ]
    if path.suffix == ".html":
        return re.sub(rb"[0-9.]+ s\b|<td>[0-9.]+</td>", b"", path.read_bytes())
    return cases.content(path)


def features(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "cache").rglob("*.npy"))}


def undisturbed(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What every step leaves, and how long it takes."""
    seconds = {}
    for name, words, _ in STEPS:
        said = processes.typed(words, folder, 600)
        if said.code != 0:
            raise RuntimeError(f"{name} ended with {said.code}:\n{said.err}")
        seconds[name] = said.seconds
    return {place: left(folder / place) for _, _, places in STEPS for place in places} | {
        "cache": features(folder)
    }, seconds


def killed_until_done(
    draw: Random, words: tuple[Any, ...], folder: Path, seconds: float, most: int
) -> tuple[int, processes.Said]:
    """Type a command and kill it, at most `most` times, each at a moment within the time it takes; then let it end. How often it was hit."""
    hits = 0
    for _ in range(most):
        started, moment = time.monotonic(), draw.uniform(0.02, seconds)
        pid, done = processes.begin(words, folder, folder / ".said"), 0
        while time.monotonic() - started < moment and not (done := os.waitpid(pid, os.WNOHANG)[0]):
            time.sleep(0.002)
        if done:
            break
        os.kill(pid, signal.SIGKILL)
        hits += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    return hits, processes.typed(words, folder, 600)


def kill(kills: int, seed: int, stop_after_s: float = 1e9) -> tuple[Counter, list[str], int]:
    """Kills by step, faults in words, and how many rounds of all steps there were."""
    processes.prepare()
    draw, hits, faults, rounds, started = (
        Random(seed),
        Counter({name: 0 for name, _, _ in STEPS}),
        [],
        0,
        time.monotonic(),
    )
    with tempfile.TemporaryDirectory() as place:
        for name, each in (("photos/train", 4), ("photos/test", 3)):
            world.photographs(Path(place, "clean", name), each, seed=each)
        world.photographs(Path(place, "clean/ood"), 2, seed=2, classes=("x", "y"))
        expected, seconds = undisturbed(shutil.copytree(Path(place, "clean"), Path(place, "undisturbed")))
        while hits.total() < kills and time.monotonic() - started < stop_after_s:
            folder = shutil.copytree(Path(place, "clean"), Path(place, f"round-{rounds}"))
            for name, words, places in STEPS:
                most = min(kills - hits.total(), 1 + draw.randrange(4))
                count, said = killed_until_done(draw, words, folder, seconds[name], most)
                hits[name] += count
                if said.code != 0:
                    faults.append(
                        f"round {rounds}, {name}: typed again it ended with {said.code}: {said.err.strip()[-300:]}"
                    )
                    break
                faults += [
                    f"round {rounds}, {name}: {place} differs"
                    for place in places
                    if left(folder / place) != expected[place]
                ]
            else:
                faults += [f"round {rounds}: the cache differs"] if features(folder) != expected["cache"] else []
            rest = [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in (".part", ".lock")]
            faults += [f"round {rounds}: {', '.join(rest)} left behind"] if rest else []
            rounds += 1
            print(f"{rounds} rounds, {hits.total()} kills, {len(faults)} faults", file=sys.stderr, flush=True)
    return hits, faults, rounds


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kills", type=int, default=200, help="how many [200]")
    made.add_argument("--seed", type=int, default=0, help="of their moments [0]")
    made.add_argument(
        "--stop-after", type=float, default=1e9, metavar="S", help="seconds after which no round is begun [never]"
    )
    given = made.parse_args()
    started = time.monotonic()
    hits, faults, rounds = kill(given.kills, given.seed, given.stop_after)
    print(
        "| step | kills |\n| --- | ---: |",
        *(f"| {name} | {count} |" for name, count in hits.items()),
        f"| all | {hits.total()} |",
        sep="\n",
    )
    print(f"\n{rounds} rounds, {len(faults)} faults", *faults, sep="\n")
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
