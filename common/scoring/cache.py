"""Features kept on disk, in memory's place where they are large: written in order, taken up again where a killed run left off."""

import itertools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import checkpoint
from common.backbones.classifier import Classifier
from common.cli.files import write_atomically
from common.cli.recipes import digest
from common.scorers.arrays import BASIC, Features
from common.scoring.features import extract, passes
from common.training import distributed

LARGE_BYTES = 2 * 2**30  # penultimate features and logits of a set above this are not held in memory
STRIDE_BYTES = 256 * 2**20  # a killed run does at most this much again


class FeatureCache:
    """Features on disk, keyed by content: weights, pixels, precision. A name never decides whether two things are the same.

    A set whose penultimate features and logits take more than `large_bytes` is memory-mapped, float32: its arrays are read-only views of files,
    into which each of several processes writes its own range of rows.
    """

    def __init__(self, folder: Path | None, large_bytes: int = LARGE_BYTES):
        self.folder, self.large_bytes = folder, large_bytes

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
        found = {name: array for name in names if (array := _read(_file(place, name), len(images), mapped)) is not None}
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
    begun = distributed.of_main(all(part.exists() for part in parts.values()))
    done = json.loads(state.read_text()) if begun and state.exists() else 0
    batches = passes(model, images, names, done=done, **how)
    first = list(itertools.islice(batches, 1))  # says types and widths
    if distributed.is_main() and not begun:  # rank 0 has rows, if any has
        for old in place.glob(f"{key}.*-of-*.json"):
            old.unlink()
        for name, values in first[0][1].items():
            np.lib.format.open_memmap(parts[name], "w+", values.dtype, (len(images), *values.shape[1:]))
    distributed.wait()
    files, unsafe = {name: _Rows(part) for name, part in parts.items()}, 0
    for start, arrays in itertools.chain(first, batches):
        for name, values in arrays.items():
            files[name].write(start, values)
            unsafe += values.nbytes
        done += len(values)
        if unsafe >= STRIDE_BYTES:
            _safe(files, state, done)
            unsafe = 0
    for file in files.values():
        file.close()
    distributed.wait()  # every range is there
    if distributed.is_main():
        for name, part in parts.items():
            part.replace(_file(place, name))
        for old in place.glob(f"{key}.*-of-*.json"):
            old.unlink()
    distributed.wait()
    return {name: np.load(_file(place, name), mmap_mode="r") for name in names} if distributed.is_main() else {}


def _safe(files: dict[str, "_Rows"], state: Path, done: int) -> None:
    for file in files.values():
        file.flush()
    write_atomically(state, lambda part: part.write_text(json.dumps(done)))


class _Rows:
    """Some rows of a .npy file, written in place. Not through a map: two machines may write rows that share a page."""

    def __init__(self, path: Path):
        whole = np.load(path, mmap_mode="r")
        self.dtype, self.row_bytes, self.first = (
            whole.dtype,
            whole.nbytes // len(whole),
            path.stat().st_size - whole.nbytes,
        )
        self.file = open(path, "r+b")

    def write(self, row: int, values: np.ndarray) -> None:
        self.file.seek(self.first + row * self.row_bytes)
        self.file.write(np.ascontiguousarray(values, self.dtype))

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

    write_atomically(path, write)


def _read(path: Path, rows: int, mapped: bool) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    except (ValueError, EOFError, OSError):
        return None
    return array if len(array) == rows else None
