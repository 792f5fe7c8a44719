"""A case: a command on damaged or odd input, what is right for it, and the verdict on what the command did."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from robustness.processes import Said, typed

REFUSED, DONE, EITHER, NOTED, ANY = (
    "refused",
    "done",
    "refused, or done with the right values",
    "done, with a word",
    "ends",
)
FAULTS = ("traceback", "wrong exit code", "hang", "silent acceptance", "names nothing", "left behind")
PASSING = ("commit", "versions", "device", "seconds")  # columns that two runs of one thing need not share
LIMIT_S = 60.0
Check = Callable[[Path], str]  # what is wrong with what a finished command wrote, "" for nothing


@dataclass
class Case:
    """`right`: how the command must end. `names`: a refusal (or a word) must have one of them. `note`: the input, for people."""

    words: tuple[Any, ...]
    right: str
    names: tuple[str, ...]
    note: str
    check: Check = lambda folder: ""
    codes: tuple[int, ...] = (0, 2)


@dataclass
class World:
    """The undamaged files, and what commands make of them, each made once."""

    root: Path
    scratch: Path
    _made: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def take(self, folder: Path, *names: str) -> None:
        """Copies of files or folders of the world, to be damaged."""
        for name in names:
            source = self.root / name
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)

    def reference(self, words: tuple[Any, ...], output: str, *names: str) -> Any:
        """What `words` write to `output` when nothing is damaged."""
        key = (*map(str, words), output)
        if key not in self._made:
            folder = self.scratch / f"reference-{len(self._made)}"
            folder.mkdir()
            self.take(folder, *names)
            said = typed(words, folder, 300)
            if said.code != 0:
                raise RuntimeError(f"{' '.join(key)} ended with {said.code}:\n{said.err}")
            self._made[key] = content(folder / output)
            shutil.rmtree(folder)
        return self._made[key]

    def same(self, words: tuple[Any, ...], output: str, *names: str, columns: tuple[str, ...] = ()) -> Check:
        """A check that `output` (of rows, those columns) is what the undamaged world gives."""
        expected = _of(self.reference(words, output, *names), columns)
        return lambda folder: (
            "" if _of(content(folder / output), columns) == expected else f"{output} holds other values"
        )


def _of(found: Any, columns: tuple[str, ...]) -> Any:
    return [tuple(row[name] for name in columns) for row in found] if columns else found


def content(path: Path) -> Any:
    """What a file says, without what differs from one run to the next."""
    if path.suffix == ".csv":
        rows = list(csv.DictReader(path.open(newline="")))
        return [{name: value for name, value in row.items() if name not in PASSING} for row in rows]
    if path.suffix == ".pt":
        found = torch.load(path, weights_only=True)
        return found["sha256"]["weights"], found["recipe"], found["training"] is None
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return path.read_bytes()


def listing(folder: Path) -> set[str]:
    """Every file and folder below one, but for what the harness itself writes."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith(".said.")}


def run(case: Case, folder: Path, limit_s: float = LIMIT_S) -> tuple[list[tuple[str, str]], Said]:
    """The faults of one case, each with a word on it."""
    before = listing(folder)
    said = typed(case.words, folder, limit_s)
    faults = list(_verdict(case, said, folder))
    refused = said.code == 2 and case.right != ANY
    if refused and (new := sorted(listing(folder) - before)):
        faults.append(("left behind", ", ".join(new[:4])))
    return faults, said


def _verdict(case: Case, said: Said, folder: Path):
    if said.code is None:
        yield "hang", f"still running after {said.seconds:.0f} s"
        return
    if "Traceback (most recent call last)" in said.err or said.code < 0:
        yield "traceback", said.err.strip().splitlines()[-1] if said.err.strip() else f"signal {-said.code}"
        return
    if said.code not in case.codes:
        yield "wrong exit code", f"{said.code}; right are {case.codes}"
        return
    if said.code == 2:
        if case.right in (DONE, NOTED):
            yield "wrong exit code", f"what is right was refused: {message(said.err)[:300]}"
        elif case.right != ANY and not any(name in message(said.err) for name in case.names if name):
            yield "names nothing", f"none of {case.names} in: {message(said.err)[:300]}"
        return
    if case.right == REFUSED and said.code == 0:
        yield "silent acceptance", "it was to be refused"
    elif case.right == NOTED and not any(name in said.err for name in case.names):
        yield "silent acceptance", f"no word on any of {case.names}"
    elif said.code == 0 and case.right in (DONE, EITHER, NOTED) and (wrong := case.check(folder)):
        yield "silent acceptance", wrong


def message(err: str) -> str:
    """The refusal itself: from the first line that says "error:" on."""
    lines = err.splitlines()
    start = next((number for number, line in enumerate(lines) if "error: " in line), len(lines))
    return "\n".join(lines[start:])


def damaged(draw: Random, content: bytes) -> tuple[bytes, str]:
    """Bytes damaged as disks and transfers damage them, and in which way. Always other bytes than before."""
    place, length = draw.randrange(len(content)), draw.choice((1, 1, 4, 64, 4096))
    way = draw.choice(("a bit", "bytes", "zeros", "cut", "cut", "inserted", "removed", "appended", "empty", "halves"))
    match way:
        case "a bit":
            new = content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        case "bytes":
            new = content[:place] + draw.randbytes(length) + content[place + length :]
        case "zeros":
            new = content[:place] + bytes(len(content[place : place + length])) + content[place + length :]
        case "cut":
            new = content[:place]
        case "inserted":
            new = content[:place] + draw.randbytes(length) + content[place:]
        case "removed":
            new = content[:place] + content[place + length :]
        case "appended":
            new = content + draw.randbytes(length)
        case "empty":
            new = b""
        case _:
            new = content[len(content) // 2 :] + content[: len(content) // 2]
    if new == content:
        return damaged(draw, content)
    return new, f"{way} at byte {place} of {len(content)}" + (
        f", {length} long" if way in ("bytes", "zeros", "inserted", "removed") else ""
    )


def damage(draw: Random, path: Path) -> str:
    """Damage a file where it lies."""
    new, way = damaged(draw, path.read_bytes())
    path.write_bytes(new)
    return f"{path.name}: {way}"
