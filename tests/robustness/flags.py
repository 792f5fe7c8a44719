"""Flags of every command with values that cannot be, and a few that can."""

import argparse
import importlib
import os
import re
import shutil
import sys
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from robustness.cases import DONE, REFUSED, Case, World
from robustness.cases import content as read
from robustness.world import QUIET

TRAIN = ("--epochs", 1, "--batch-size", 6, *QUIET, "--out", "new")
PRE, DFB = "pre/checkpoint.pt", "dfb/checkpoint.pt"
PAIR = (DFB, "--vanilla", PRE, "--ood", "folder:ood", *QUIET)
TSNE = ("drawn/checkpoint.pt", "--ood", "shapes-noise", "--limit", 100, "--out", "f", *QUIET)  # needs 92 images
# A line of each command (and subcommand) that would run, and what of the world it needs
LINES: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
    "common.compare": (("pre/results.npz:msp", "lbf/results.npz:msp"), ("pre", "lbf")),
    "common.convert": ((PRE, "--backbone", "resnet8", "--classes", "left", "right", "whole", "--id", "folder:photos", "--out", "new"), ("pre", "photos")),
    "common.data.__main__": (("list", "isun"), ()),
    "common.data.shapes": (("sheet.png",), ()),
    "common.detect export": (("mine.ood", "d.onnx"), ("mine.ood",)),
    "common.detect fit": ((PRE, "--id", "photos/train", "--held-out", "photos/test", "--out", "d.ood", *QUIET), ("pre", "photos")),
    "common.detect score": (("mine.ood", "ood", "--csv", "scores.csv", *QUIET), ("mine.ood", "ood")),
    "common.detect show": (("mine.ood",), ("mine.ood",)),
    "common.evaluate": ((PRE, "--ood", "folder:ood", *QUIET), ("pre", "photos", "ood")),
    "common.pretrain": (
        ("shapes", "--id", "folder:photos", "--backbone", "resnet8", "--image-size", 16, *TRAIN), ("photos",),
    ),
    "common.report": (("pre", "--scorer", "msp", "--out", "page.html", *QUIET), ("pre", "photos", "ood")),
    "common.runs": (("list", "."), ("pre",)),
    "common.tables": (("rows/LBF/results.csv",), ("rows",)),
    "dfb.ablation": (("dfb/results.csv",), ("dfb",)),
    "dfb.classes": (("rows/classes/results.csv", "--out", "f"), ("rows",)),
    "dfb.evaluate": ((*PAIR, "--scorers", "msp"), ("dfb", "pre", "photos", "ood")),
    "dfb.figures": ((*PAIR, "--out", "f"), ("dfb", "pre", "photos", "ood")),
    "dfb.finetune": ((PRE, "--preset", "shapes", "--masks", "masks", *TRAIN), ("pre", "masks", "photos")),
    "dfb.masks": ((PRE, "--out", "m", *QUIET), ("pre", "photos")),
    "dfb.quality": (("drawn-dfb/results.csv", "--masks", "drawn/masks/manifest.json", "--out", "f"), ("drawn-dfb", "drawn")),
    "dfb.temperature": ((*PAIR, "--out", "f", "--scorers", "msp"), ("dfb", "pre", "photos", "ood")),
    "dfb.tsne": (("drawn-dfb/checkpoint.pt", "--vanilla", *TSNE), ("drawn-dfb", "drawn")),
    "lbf.ablation": (("rows/LBF/results.csv", "rows/control/results.csv", "--out", "f"), ("rows",)),
    "lbf.bars": (("rows/LBF/results.csv", "--paper", "printed.csv", "--out", "f"), ("rows", "printed.csv")),
    "lbf.figures": (("pre", "lbf", "--out", "f", *QUIET), ("pre", "lbf", "photos", "ood")),
    "lbf.finetune": ((PRE, "--preset", "shapes", *TRAIN), ("pre", "photos")),
    "lbf.selection": (("drawn/checkpoint.pt", "--limit", 8, *QUIET), ("drawn",)),
    "lbf.sensitivity": (("rows/LBF/results.csv", "--out", "f"), ("rows",)),
    "lbf.tsne": (TSNE, ("drawn",)),
}  # fmt: skip
NO_NUMBER = ("nan", "inf", "-inf", "1e999", "abc", "", "0x1F", "9" * 30, "-1", "-0.5", "1,5", "٣٫٥", "--", "1 2")
NOT_ZERO = {
    "limit",
    "batch_size",
    "image_size",
    "epochs",
    "steps",
    "output_stride",
    "short_side",
    "quality",
    "resize_px",
    "repeats",
}
HIGHEST = {"momentum": 1, "area_low": 1, "scale_low": 8, "scale_high": 8, "cam_eps": 1, "theta": 1, "quality": 100}
TRAINING = ("common.pretrain", "lbf.finetune", "dfb.finetune")
FOLDERS = {"lbf.ablation", "dfb.quality", "common.convert", "common.pretrain", "dfb.classes", "dfb.figures", "dfb.finetune", "dfb.masks", "dfb.temperature", "dfb.tsne", "lbf.bars",
           "lbf.figures", "lbf.finetune", "lbf.tsne"}  # whose --out is a folder  # fmt: skip
NEW_FILES = {"out", "csv", "latex", "save_scores", "sheet", "onnx"}
WORDS = {
    "ood": ("", "nothing", "folder:", "folder:nowhere", "svhn:n=x", "svhn:n=", "shapes-noise:zork=1", "folder:photos", "isun:encode=zip1",
            "list:", "list:nowhere.txt", "list:photos", "list:one,two,three", "list:photos:root="),
    "id": ("", "nothing", "folder:nowhere", "svhn:n=-1", "shapes:zork=1", "shapes:correlation=2", "shapes:seed=x",
           "list:", "list:nowhere.txt", "list:photos"),
    "held_out": ("", "nothing", "folder:", "folder:nowhere", "shapes:zork=1", "svhn:n=x"),
    "scorers": ("", "nothing", "knn:k=0", "knn:k=x", "knn:k=nan", "energy:T=0", "energy:T=-1", "energy:T=inf", "energy:zork=1", "energy:T", "Energy "),
    "device": ("", "gpu", "cuda:99", "cpu:x", "meta", "tpu"),
    "preset": ("", "nothing", "CIFAR10", "shapes "),
    "backbone": ("", "resnet7", "timm:", "timm:nothing", "wrn28"),
    "weights": ("", "nowhere.pt", "photos", "/dev/null"),
    "objective": ("", "nothing"),
    "scorer": ("", "nothing", "knn:k=x"),
    "score_against": ("", "false", "tiny"),
    "method": ("", "=1+1", "@x", "   "),
    "expect": ("", "x", "=k", "x="),
    "extra": ("", "nothing", "LBF"),
    "a": ("", "nothing", "pre/results.npz", "pre/results.npz:", "pre/results.npz:zork", "nowhere.npz:msp", "pre:msp", ":msp"),
    "what": ("", "nothing", "LIST"),
    "names": ("", "nothing", "ISUN", "isun:n=1"),
}  # fmt: skip
WORDS |= {"b": WORDS["a"]}


class _Found(BaseException):
    pass


def parser_of(command: str) -> argparse.ArgumentParser:
    """What `command` would read its words with, of a subcommand those behind its name. The command does not run."""
    module, *parts = command.split()

    def stop(parser, *_, **__):
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop), mock.patch.object(sys, "argv", [module]):
        try:
            importlib.import_module(module).main()
        except _Found as found:
            parser = found.args[0]
    for part in parts:
        parser = next(action.choices[part] for action in parser._actions if action.nargs == argparse.PARSER)
    return parser


def make(draw: Random, world: World, folder: Path) -> Case:
    """One flag of one command."""
    command = draw.choice([*LINES])
    words, needs = LINES[command]
    world.take(folder, *needs)
    actions = [action for action in parser_of(command)._actions if action.nargs != 0]
    action = draw.choice(actions)
    if command in TRAINING and draw.random() < 0.1:
        return _a_value_that_can_be(draw, command, words)
    if draw.random() < 0.05:
        return _mistyped(draw, command, words, actions)
    values = _odd(draw, command, action, folder)
    if not values:
        return make(draw, world, _emptied(folder))
    value, note = values
    if not value:
        return Case(
            (*command.split(), *_with(words, action, value)),
            REFUSED,
            (action.dest.replace("_", "-"), "got ''"),
            f"{command} {action.dest}: ''",
        )
    parts = [part for part in re.split("[:=]", value) if len(part) > 2]
    flags = [option.strip("-") for option in action.option_strings]
    said = tuple(dict.fromkeys((action.dest, action.dest.replace("_", "-"), *flags, *parts)))
    return Case((*command.split(), *_with(words, action, value)), REFUSED, said, f"{command} {action.dest}: {note}")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def _with(words: tuple[Any, ...], action: Any, value: str) -> tuple[Any, ...]:
    """The line with one value in the flag's place."""
    if not action.option_strings:  # the first positional
        return (words[0], value, *words[2:]) if action.dest in ("b", "names", "onnx") else (value, *words[1:])
    flag, kept, skip = action.option_strings[-1], [], False
    for word in words:
        skip = word == flag if isinstance(word, str) and word.startswith("--") else skip
        if not skip:
            kept.append(word)
    return (*kept, f"{flag}={value}") if value.startswith("-") or not value else (*kept, flag, value)


def _odd(draw: Random, command: str, action: Any, folder: Path) -> tuple[str, str] | None:
    """A value that cannot be, and what it is; None where any word will do."""
    name, kind = action.dest, getattr(action.type, "__name__", "")
    if action.choices:
        return (word := draw.choice(("", "nothing", str(next(iter(action.choices))).upper() + "x"))), repr(word)
    if kind in ("int", "float", "_list_of_numbers"):
        options = (
            [*NO_NUMBER] if kind != "_list_of_numbers" else ["nan", "inf", "abc", "-1", "0.5,x", "0.5,nan", "9,-1"]
        )
        options += (
            ["1.5", "1e3"] * (kind == "int")
            + ["0"] * (name in NOT_ZERO)
            + [str(HIGHEST.get(name, 0) + 1)] * (name in HIGHEST)
        )
        return (word := draw.choice(options)), repr(word)
    if command == "common.data.__main__" and name in ("out", "id"):  # `list` looks at neither
        return None
    if name in WORDS:
        # common.convert reads no image of the set that it names
        options = [word for word in WORDS[name] if command != "common.convert" or "nowhere" not in word]
        return (word := draw.choice(options)), repr(word)
    if (
        kind in ("Path", "table_path")
        and name not in ("data", "folder", "to")
        and (command, name) != ("common.data.__main__", "out")
    ):
        is_stem = (command, name) in (("lbf.sensitivity", "out"), ("lbf.selection", "figure"))
        return _odd_place(
            draw,
            folder,
            is_new=name in NEW_FILES,
            is_folder=name == "cache" or is_stem or (name == "out" and command in FOLDERS),
            is_stem=is_stem,
        )
    return None


def _odd_place(draw: Random, folder: Path, is_new: bool, is_folder: bool, is_stem: bool) -> tuple[str, str]:
    """A path that cannot be read, or written to."""
    (folder / "a file").write_text("nothing of interest\n")
    (folder / "a folder/inside").mkdir(parents=True)
    os.mkfifo(folder / "a fifo")
    (folder / "a link").symlink_to("nowhere")
    nowhere = ["/dev/null/x", "/proc/nothing/x", "a file/x", "n" * 300, "~nobody/x"]
    if is_folder:  # or a name without its suffix
        places = [*nowhere, *["a file", "a fifo", "/dev/null"] * (not is_stem)]
    elif is_new:
        places = [*nowhere, "a folder", "a fifo", "a link", "/dev/null", "/dev/full"]
    else:
        places = [
            "nowhere",
            "a folder",
            "a file",
            "a fifo",
            "a link",
            "/dev/null",
            "/dev/zero",
            "n" * 300,
            "new\nline",
            "a file/x",
        ]
    return (place := draw.choice(places)), repr(place[:40])


def _mistyped(draw: Random, command: str, words: tuple[Any, ...], actions: list[Any]) -> Case:
    """A flag that nobody has, one without its value, a positional too many."""
    flag = draw.choice([action.option_strings[-1] for action in actions if action.option_strings] or ["--zork"])
    more = draw.choice((("--zork",), ("--zork", "1"), (flag,)))
    names = (more[0], more[0].strip("-"))
    return Case((*command.split(), *words, *more), REFUSED, names, f"{command} {' '.join(more)}, mistyped")


def _a_value_that_can_be(draw: Random, command: str, words: tuple[Any, ...]) -> Case:
    """A value of the recipe that is allowed stands in the checkpoint."""
    name, value = draw.choice([
        ("lr", round(draw.uniform(0, 0.01), 6)), ("momentum", draw.choice((0.0, 1.0, 0.5))), ("weight_decay", draw.choice((0.0, 1e-4))),
        ("warmup_steps", draw.randrange(4)), ("batch_size", draw.randrange(4, 12)), ("schedule", draw.choice(("cosine", "step"))),
    ])  # fmt: skip

    def check(folder: Path) -> str:
        found = read(folder / "new/checkpoint.pt")[1].get(name)
        return "" if found == value else f"{name} is {found} in the checkpoint, {value} was asked for"

    flag = "--" + name.replace("_", "-")
    return Case((command, *words, flag, value), DONE, (), f"{command} {flag} {value}", check)
