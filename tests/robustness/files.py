"""Checkpoints, masks, caches, logs and stamps that were damaged, or changed with care."""

import pickle
import shutil
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import torch

from robustness.cases import ANY, DONE, EITHER, REFUSED, Case, World, damage, damaged
from robustness.flags import PRE, TRAIN
from robustness.world import QUIET

EVALUATE = ("common.evaluate", PRE, "--ood", "folder:ood", "--out", "new.csv", *QUIET)
NEEDS = ("pre/checkpoint.pt", "photos", "ood")
# Who reads a checkpoint: its line, what it writes, what it needs
READERS: tuple[tuple[tuple[Any, ...], str, tuple[str, ...]], ...] = (
    (EVALUATE, "new.csv", NEEDS),
    (EVALUATE, "new.csv", NEEDS),
    (("lbf.finetune", PRE, "--preset", "shapes", *TRAIN), "new/checkpoint.pt", NEEDS[:2]),
    (("dfb.masks", PRE, "--preset", "single-scale", "--out", "new", *QUIET), "new/manifest.json", NEEDS[:2]),
    (("dfb.evaluate", "dfb/checkpoint.pt", "--vanilla", PRE, "--ood", "folder:ood", "--scorers", "msp", "--out", "new.csv", *QUIET), "new.csv",
     (*NEEDS, "dfb/checkpoint.pt")),
)  # fmt: skip


class Evil:
    """A pickle that makes a file `ran` where it is opened."""

    def __reduce__(self):
        return (open, ("ran", "w"))


def checkpoint(draw: Random, world: World, folder: Path) -> Case:
    """A checkpoint with one thing wrong, read by one of its readers."""
    words, output, needs = draw.choice(READERS)
    check = world.same(words, output, *needs)
    world.take(folder, *needs)
    path = folder / PRE
    way = draw.choice((_bytes, _bytes, _member, _content, _foreign))
    right, note = way(draw, path)
    if right == REFUSED:
        check = lambda folder: ""  # noqa: E731
    unharmed = lambda folder: "it ran code" if (folder / "ran").exists() else check(folder)  # noqa: E731
    return Case(words, right, ("pre/checkpoint.pt", "checkpoint.pt"), f"{words[0]}: {note}", unharmed)


def _bytes(draw: Random, path: Path) -> tuple[str, str]:
    return EITHER, damage(draw, path)


def _member(draw: Random, path: Path) -> tuple[str, str]:
    """One member of the zip damaged, with checksums that fit."""
    with zipfile.ZipFile(path) as archive:
        found = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw.choice([name for name, inside in found.items() if inside])
    found[name], way = damaged(draw, found[name])
    with zipfile.ZipFile(path, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, inside in found.items():
            archive.writestr(member, inside)
    return EITHER, f"member {name}, checksum fitting: {way}"


def _content(draw: Random, path: Path) -> tuple[str, str]:
    """What is in it changed, and saved as torch saves."""
    found = torch.load(path, weights_only=True)
    weights = found["weights"]
    name = draw.choice([name for name, tensor in weights.items() if tensor.is_floating_point()])
    part, fact = draw.choice(list(found)), draw.choice(list(found["facts"]))
    way = draw.choice(
        (
            "a weight",
            "NaN",
            "no weight",
            "one more",
            "half",
            "shape",
            "no part",
            "one part more",
            "format",
            "no fact",
            "a fact",
            "recipe",
            "digest",
            "None",
        )
    )
    match way:
        case "a weight":
            weights[name].view(-1)[0] += 1
        case "NaN":
            weights[name].fill_(float("nan"))
        case "no weight":
            del weights[name]
        case "one more":
            weights["zork"] = torch.zeros(1)
        case "half":
            weights[name] = weights[name].half()
        case "shape":
            weights[name] = weights[name][None]
        case "no part":
            del found[part]
        case "one part more":
            found["zork"] = 1
        case "format":
            found["format"] = "zork"
        case "no fact":
            del found["facts"][fact]
        case "a fact":
            found["facts"][fact] = "zork"
        case "recipe":
            found["recipe"]["lr"] = 12345.0
        case "digest":
            found["sha256"] = dict.fromkeys(found["sha256"], "0" * 64)
        case _:
            found[part] = None if found[part] is not None else {}
    torch.save(found, path)
    return REFUSED, f"content: {way} ({name}, {part}, {fact})"


def _foreign(draw: Random, path: Path) -> tuple[str, str]:
    """Another file under its name."""
    found = torch.load(path, weights_only=True)
    way = draw.choice(
        (
            "a state dict",
            "a list",
            "an evil pickle",
            "evil inside",
            "plain pickle",
            "a folder",
            "text",
            "gone",
            "a tensor",
            "unfinished",
        )
    )
    path.unlink()
    match way:
        case "a state dict":
            torch.save(found["weights"], path)
        case "a list":
            torch.save([1, 2], path)
        case "an evil pickle":
            path.write_bytes(pickle.dumps(Evil()))
        case "evil inside":
            torch.save(found | {"facts": found["facts"] | {"seed": Evil()}}, path)
        case "plain pickle":
            path.write_bytes(pickle.dumps({"weights": [1.0]}))
        case "a folder":
            path.mkdir()
        case "text":
            path.write_text("no network\n")
        case "a tensor":
            torch.save(torch.zeros(3), path)
        case "unfinished":
            torch.save(found | {"training": {"step": 1}}, path)
    return REFUSED, f"in its place: {way}"


def resumed(draw: Random, world: World, folder: Path) -> Case:
    """A finished run whose checkpoint, log, recipe or stamp is damaged, asked for again: it is there, or it is made again as it was."""
    words = ("lbf.finetune", PRE, "--preset", "shapes", "--epochs", 1, "--batch-size", 6, *QUIET, "--out", "lbf")
    check = world.same(words, "lbf/checkpoint.pt", *NEEDS[:2])
    world.take(folder, *NEEDS[:2], "lbf")
    files = ["checkpoint.pt", "log.jsonl", "recipe.json", ".checkpoint.pt.made.json"]
    path = folder / "lbf" / draw.choice([name for name in files if (folder / "lbf" / name).exists()])
    return Case(words, DONE, (), f"a run asked for again, {damage(draw, path)}", check)


def masks(draw: Random, world: World, folder: Path) -> Case:
    """Masks with a damaged part or manifest: trained on, or made again."""
    is_made = draw.random() < 0.4
    train = ("dfb.finetune", PRE, "--preset", "shapes", "--masks", "masks", *TRAIN)
    again = ("dfb.masks", PRE, "--preset", "single-scale", "--out", "masks", *QUIET)
    words, output = (again, "masks/manifest.json") if is_made else (train, "new/checkpoint.pt")
    needs = (*NEEDS[:2], "masks")
    check = world.same(words, output, *needs)
    world.take(folder, *needs)
    files = [path for path in sorted((folder / "masks").iterdir()) if not path.name.startswith(".")]
    path = draw.choice(files)
    if draw.random() < 0.2:
        path.unlink()
        return Case(words, DONE if is_made else REFUSED, ("masks",), f"{words[0]}: {path.name} is gone", check)
    note = damage(draw, path)
    return Case(words, DONE if is_made else EITHER, ("masks",), f"{words[0]}: {note}", check)


def cache(draw: Random, world: World, folder: Path) -> Case:
    """Features on disk that are not what they were: the rows must be those without them."""
    words = ("common.evaluate", PRE, "--ood", "folder:ood", "--cache", "cache", "--out", "new.csv", *QUIET)
    check = world.same(words, "new.csv", *NEEDS, "cache")
    world.take(folder, *NEEDS, "cache")
    files = sorted((folder / "cache").rglob("*.npy"))
    path, other = draw.sample(files, 2)
    way = draw.choice(("damage", "damage", "damage", "gone", "another's", "text"))
    note = {"gone": "gone", "another's": f"that of {other.parent.name[:6]}/{other.name}", "text": "text"}.get(
        way
    ) or damage(draw, path)
    if way == "gone":
        path.unlink()
    elif way == "another's":
        shutil.copy(other, path)
    elif way == "text":
        path.write_text("no features\n")
    return Case(words, DONE, (), f"cache, {path.name}: {note}", check)


def log(draw: Random, world: World, folder: Path) -> Case:
    """A log with a line that cannot be, on the page."""
    world.take(folder, "pre", "photos", "ood")
    path, words = folder / "pre/log.jsonl", ("common.report", "pre", "--scorer", "none", "--out", "page.html", *QUIET)
    line = path.read_text().splitlines()[0]
    way = draw.choice(("half a line", "text", "epoch twice", "no epoch", "a word", "a list", "bytes", "any"))
    if way == "any":
        return Case(words, ANY, (), f"log: {damage(draw, path)}")
    new = {
        "half a line": line[: len(line) // 2], "text": "no log", "epoch twice": f"{line}\n{line}", "no epoch": line.replace('"epoch"', '"zork"'),
        "a word": line.replace('"loss": ', '"loss": "x", "other": '), "a list": "[1, 2]",
    }  # fmt: skip
    path.write_bytes(b"\xff\xfe\x00" if way == "bytes" else new[way].encode() + b"\n")
    return Case(words, REFUSED, ("log.jsonl",), f"log: {way}")
