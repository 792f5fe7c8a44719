"""A small world: photographs, networks trained on them for a step, their masks, features, rows and scores. All of it is made by the commands."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from result_rows import result_row, write_rows

from robustness.processes import typed

QUIET = ("--quiet", "--device", "cpu")
CLASSES, SIDE = ("left", "right", "whole"), 16


def photographs(folder: Path, each: int, seed: int, classes: tuple[str, ...] = CLASSES) -> None:
    """A folder of class folders with `each` PNGs."""
    draw = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for image in range(each):
            pixels = draw.integers(0, 160, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[:, :: number + 1] += np.uint8(60)
            Image.fromarray(pixels).save(folder / name / f"{image}.png")


def arrays(seed: int = 0, classes: int = 4, channels: int = 6, images: int = 20) -> dict[str, np.ndarray]:
    """Own arrays that fit one another, without logits."""
    draw = np.random.default_rng(seed)
    head, labels = draw.normal(size=(classes, channels)), np.arange(images) % classes
    near = lambda shift: (np.abs(head[labels] + shift + draw.normal(size=(images, channels)))).astype(np.float32)  # noqa: E731
    return {
        "head_weight": head.astype(np.float32), "head_bias": draw.normal(size=classes).astype(np.float32),
        "id_penultimate": near(0.0), "id_labels": labels, "train_penultimate": near(0.1), "train_labels": labels,
        "ood_far_penultimate": near(1.0), "ood_near_penultimate": near(0.2),
    }  # fmt: skip


def rows(folder: Path) -> None:
    """Files of results: three methods, two OOD sets, two seeds."""
    for place, (method, changes) in enumerate(
        [("pre", {}), ("control", {"lam": 0.0}), ("LBF", {"lam": 1.0, "mu": 2.0})]
    ):
        recipe = json.dumps({"delta": 0.1, "mu": 1.0, "lam": 1.0} | changes)
        found = [
            result_row(method=method, recipe=recipe, ood_set=ood, seed=seed, auroc=0.5 + 0.1 * place + 0.01 * seed)
            for ood in ("svhn", "isun") for seed in (0, 1)
        ]  # fmt: skip
        write_rows(folder / method / "results.csv", *found)
    drawn = [result_row(id_set=f"imagenet1k:C={classes},seed=0", ood_set="inaturalist") for classes in (200, 500)]
    write_rows(folder / "classes/results.csv", *drawn)


def steps() -> list[tuple[object, ...]]:
    """The commands that make the trained part, in order."""
    train = ("--epochs", 1, "--batch-size", 6, *QUIET)
    return [
        ("common.pretrain", "shapes", "--id", "folder:photos", "--backbone", "resnet8", "--image-size", SIDE, "--out", "pre", *train),
        ("lbf.finetune", "pre/checkpoint.pt", "--preset", "shapes", "--out", "lbf", *train),
        ("dfb.masks", "pre/checkpoint.pt", "--preset", "single-scale", "--out", "masks", *QUIET),
        ("dfb.finetune", "pre/checkpoint.pt", "--preset", "shapes", "--masks", "masks", "--out", "dfb", *train),
        ("common.evaluate", "pre/checkpoint.pt", "--ood", "folder:ood", "--cache", "cache", *QUIET),
        ("common.evaluate", "lbf/checkpoint.pt", "--ood", "folder:ood", "--cache", "cache", *QUIET),
        ("dfb.evaluate", "dfb/checkpoint.pt", "--vanilla", "pre/checkpoint.pt", "--ood", "folder:ood", *QUIET),
        ("common.pretrain", "shapes", "--limit", 16, "--backbone", "resnet8", "--out", "drawn", *train),
        ("dfb.masks", "drawn/checkpoint.pt", "--preset", "single-scale", "--score-against", "truth", "--out", "drawn/masks", *QUIET),
        ("dfb.finetune", "drawn/checkpoint.pt", "--preset", "shapes", "--masks", "drawn/masks", "--out", "drawn-dfb", *train),
        ("dfb.evaluate", "drawn-dfb/checkpoint.pt", "--ood", "shapes-noise", "--limit", 16, "--scorers", "msp", *QUIET),
        ("common.detect", "fit", "pre/checkpoint.pt", "--id", "photos/train", "--held-out", "photos/test", "--out", "mine.ood", *QUIET),
    ]  # fmt: skip


def make(root: Path) -> Path:
    """The world below `root`. Raises RuntimeError where a command does not end well."""
    photographs(root / "photos/train", 4, seed=0)
    photographs(root / "photos/test", 3, seed=1)
    photographs(root / "ood", 2, seed=2, classes=("x", "y"))
    np.savez(root / "own.npz", **arrays())
    rows(root / "rows")
    shutil.copy(Path(__file__).resolve().parents[2] / "lbf/paper/table1.csv", root / "printed.csv")
    for words in steps():
        said = typed(words, root, limit_s=300)
        if said.code != 0:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {said.code}:\n{said.err}")
    return root
