"""Features kept on disk, in memory's place where they are large: written in order, taken up again where a killed run left off.

Each array is a .npy with 32 bytes behind it: the SHA-256 of what it is of (weights, pixels, precision, its name) and of the whole file before
them. What does not fit, or is of an older form, is only a cache: it is made again, with a word on stderr.
"""

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli.files import read_json, write_atomically, write_json
from common.cli.outputs import check_outputs
from common.cli.recipes import digest
from common.scorers.arrays import BASIC, Features
from common.scoring.features import extract, passes
from common.training import distributed

LARGE_BYTES = 2 * 2**30  # penultimate features and logits of a set above this are not held in memory
STRIDE_BYTES = 256 * 2**20  # a killed run does at most this much again
BLOCK = 1 << 20  # bytes read at a time where they are hashed
DIGEST_BYTES = 32


class FeatureCache:
    """Features on disk, keyed by content: weights, pixels, precision. A name never decides whether two things are the same.

    A set whose penultimate features and logits take more than `large_bytes` is memory-mapped, float32: its arrays are read-only views of files,
    into which each of several processes writes its own range of rows.
    """

    def __init__(self, folder: Path | None, large_bytes: int = LARGE_BYTES):
        self.folder, self.large_bytes = folder, large_bytes
        if folder is not None:  # told before a pass, not behind it
            check_outputs([folder / "features.npy"])

    def get(
        self,
        model: Classifier,
        images: Any,
        needs: Iterable[str],
        *,
        batch_size: int = 250,
        device: Any = "cpu",
        progress: bool = True,
    ) -> Features:
        """As `extract`, with what is on disk taken from there and the rest put there. Over several processes rank 0 alone gets it."""
        names = list(dict.fromkeys([*BASIC, *(need for need in needs if need != "labels")]))
        how = {"batch_size": batch_size, "device": device, "progress": progress}
        if self.folder is None:
            return extract(model, images, names, **how)
        place = (
            self.folder
            / digest(checkpoint.weights_digest(model), images.digest, model.bf16, torch.device(device).type)[:32]
        )
        mapped = 4 * len(images) * (model.channels + model.classes) > self.large_bytes
        widths = {"penultimate": (model.channels,), "logits": (model.classes,)}
        found: dict[str, np.ndarray] = {}
        for name in names if distributed.is_main() else ():
            if (array := _read(_file(place, name), len(images), widths.get(name), mapped)) is not None:
                found[name] = array
        missing = distributed.of_main([name for name in names if name not in found])
        if missing:
            found |= (_stream if mapped else _make)(place, model, images, missing, how)
        if not distributed.is_main():
            return Features(np.empty((0, model.channels)), np.empty((0, model.classes)))
        labels = None if images.labels is None else images.labels.cpu().numpy()
        return Features(found.pop("penultimate"), found.pop("logits"), labels, found)


def _make(place: Path, model: Classifier, images: Any, names: list[str], how: dict[str, Any]) -> dict[str, np.ndarray]:
    """The missing arrays, in memory and put on disk."""
    made = extract(model, images, names, **how)
    fresh = {"penultimate": made.penultimate, "logits": made.logits, **made.extras}
    for name in names if distributed.is_main() else ():
        _write(_file(place, name), fresh[name])
    return {name: fresh[name] for name in names}


def _stream(
    place: Path, model: Classifier, images: Any, names: list[str], how: dict[str, Any]
) -> dict[str, np.ndarray]:
    """The missing arrays as files that fill batch by batch, each process its own range of rows. How many of them are safe stands beside the
    files, for this number of processes, so that a killed run goes on from there."""
    place.mkdir(parents=True, exist_ok=True)
    key = digest(*names)[:16]
    parts = {name: place / f"{key}.rows.{_file(place, name).name}" for name in names}  # of this set of needs alone
    state = place / f"{key}.{distributed.rank()}-of-{distributed.world()}.json"
    begun = distributed.of_main(_note(state).get("headers") == {name: _header(part) for name, part in parts.items()})
    done = _safe_rows(state, parts, len(images)) if begun else 0
    batches = passes(model, images, names, done=done, **how)
    first = list(itertools.islice(batches, 1))  # says types and widths
    if distributed.is_main() and not begun:  # rank 0 has rows, if any has
        for old in place.glob(f"{key}.*-of-*.json"):
            old.unlink()
        for name in names:
            values = first[0][1][name]
            np.lib.format.open_memmap(parts[name], "w+", values.dtype, (len(images), *values.shape[1:]))
    distributed.wait()
    files, unsafe = {name: _Rows(part, _first_row(len(images)), done) for name, part in parts.items()}, 0
    for start, arrays in itertools.chain(first, batches):
        for name in names:  # a pass makes more than what is missing
            files[name].write(start, arrays[name])
            unsafe += arrays[name].nbytes
        done += len(arrays[names[0]])
        if unsafe >= STRIDE_BYTES:
            _safe(files, state, done)
            unsafe = 0
    for file in files.values():
        file.close()
    distributed.wait()  # every range is there
    if distributed.is_main():
        for name, part in parts.items():
            _seal(part, _file(place, name))
            part.replace(_file(place, name))
        for old in place.glob(f"{key}.*-of-*.json"):
            old.unlink()
    distributed.wait()
    return {name: np.load(_file(place, name), mmap_mode="r") for name in names} if distributed.is_main() else {}


def _first_row(count: int) -> int:
    """Of this process's range of rows."""
    mine = distributed.share(torch.arange(count))
    return int(mine[0]) if len(mine) else 0


def _note(state: Path) -> dict[str, Any]:
    """What a killed process has noted of its rows; {} where nothing that can be read."""
    found = read_json(state)
    return found if isinstance(found, dict) else {}


def _header(part: Path) -> str:
    """SHA-256 of what stands before the rows; "" where the file is not there, or not as long as that says."""
    try:
        whole = np.load(part, mmap_mode="r", allow_pickle=False)
        with open(part, "rb") as file:
            return hashlib.sha256(file.read(part.stat().st_size - whole.nbytes)).hexdigest()
    except Exception:  # numpy raises many kinds for a header that was changed
        return ""


def _safe_rows(state: Path, parts: dict[str, Path], count: int) -> int:
    """How many rows of its range a killed process has left on disk, unchanged since."""
    done, first = _note(state).get("done"), _first_row(count)
    if type(done) is not int or not 0 < done <= count - first:
        return 0
    files = {name: _Rows(part, first, done) for name, part in parts.items()}
    for file in files.values():
        file.file.close()
    if {name: file.sha.hexdigest() for name, file in files.items()} == _note(state).get("rows"):
        return done
    print(f"{state.parent}: rows that a killed pass left are damaged; made again", file=sys.stderr)
    return 0


def _safe(files: dict[str, "_Rows"], state: Path, done: int) -> None:
    for file in files.values():
        file.flush()
    rows = {name: file.sha.hexdigest() for name, file in files.items()}
    write_json(
        state, {"done": done, "rows": rows, "headers": {name: _header(file.path) for name, file in files.items()}}
    )


class _Rows:
    """Some rows of a .npy file, written in place. Not through a map: two machines may write rows that share a page.

    `sha` is of the rows from `first_row` on, of which `done` are there already.
    """

    def __init__(self, path: Path, first_row: int, done: int):
        whole = np.load(path, mmap_mode="r")
        self.path, self.dtype, self.row_bytes = path, whole.dtype, whole.nbytes // len(whole)
        self.first = path.stat().st_size - whole.nbytes
        self.file, self.sha = open(path, "r+b"), hashlib.sha256()
        self.file.seek(self.first + first_row * self.row_bytes)
        _hash(self.sha, self.file, done * self.row_bytes)

    def write(self, row: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, self.dtype)
        self.file.seek(self.first + row * self.row_bytes)
        self.file.write(values)
        self.sha.update(values)

    def flush(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.flush()
        self.file.close()


def _file(place: Path, name: str) -> Path:
    return place / (re.sub(r"[^A-Za-z0-9.=-]", "_", name) + ".npy")


def _write(path: Path, array: np.ndarray) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, array)
        _seal(part, path)

    write_atomically(path, write)


def _hash(sha: Any, file: Any, count: int) -> None:
    """Feed the next `count` bytes of a file, or as many as there are."""
    while count > 0 and (block := file.read(min(BLOCK, count))):
        sha.update(block)
        count -= len(block)


def _digest(path: Path, target: Path, count: int) -> bytes:
    """Of the first `count` bytes of a file that is `target` of the cache, or will be: folder and name say what it is of."""
    sha = hashlib.sha256(f"{target.parent.name}/{target.name}\n".encode())
    with open(path, "rb") as file:
        _hash(sha, file, count)
    return sha.digest()


def _seal(path: Path, target: Path) -> None:
    """Put the digest behind an array that is whole."""
    behind = _digest(path, target, path.stat().st_size)
    with open(path, "ab") as file:
        file.write(behind)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, rows: int, width: tuple[int, ...] | None, mapped: bool) -> np.ndarray | None:
    """An array of the cache; None where it is not there, or not what was written: that is said on stderr. `width`: of a row, where known."""
    if not path.exists():
        return None
    try:
        size = path.stat().st_size - DIGEST_BYTES
        with open(path, "rb") as file:
            file.seek(max(0, size))
            whole = file.read() == _digest(path, path, size)
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None) if whole else None
    except (ValueError, EOFError, OSError):
        array = None
    if array is None or len(array) != rows or (width and (array.shape[1:] != width or array.dtype != np.float32)):
        print(f"{path}: damaged, or of an older form; made again", file=sys.stderr)
        return None
    return array
