"""Features kept on disk, in memory's place where they are large: written in order, taken up again where a killed run left off."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import checkpoint, distributed
from common.backbones import Classifier
from common.features import BASIC, Features, extract, passes
from common.recipes import digest

LARGE_BYTES = 2 * 2**30  # penultimate features and logits of a set above this are not held in memory
STRIDE_BYTES = 256 * 2**20  # a killed run does at most this much again


class FeatureCache:
    """Features on disk, keyed by content: weights, pixels, precision. A name never decides whether two things are the same.

    A set whose penultimate features and logits take more than `large_bytes` is memory-mapped, float32: its arrays are read-only views of files.
    Over several processes the ranges still meet in rank 0's memory, and later runs map what it wrote.
    """

    def __init__(self, folder: Path | None, large_bytes: int = LARGE_BYTES):
        self.folder, self.large_bytes = folder, large_bytes

    def get(self, model: Classifier, images: Any, needs: Iterable[str], *, batch_size: int = 250, device: Any = "cpu", progress: bool = True) -> Features:
        """As `extract`, with what is on disk taken from there and the rest put there."""
        names = list(dict.fromkeys([*BASIC, *(need for need in needs if need != "labels")]))
        how = {"batch_size": batch_size, "device": device, "progress": progress}
        if self.folder is None:
            return extract(model, images, names, **how)
        place = self.folder / digest(checkpoint.weights_digest(model), images.digest, model.bf16, torch.device(device).type)[:32]
        mapped = 4 * len(images) * (model.channels + model.classes) > self.large_bytes
        found = {name: array for name in names if (array := _read(_file(place, name), len(images), mapped)) is not None}
        distributed.wait()  # all have looked before one of them writes
        if len(found) < len(names):
            missing = [name for name in names if name not in found]
            found |= _stream(place, model, images, missing, how) if mapped and distributed.world() == 1 else _make(place, model, images, missing, how)
        labels = None if images.labels is None or not distributed.is_main() else images.labels.cpu().numpy()
        return Features(found.pop("penultimate"), found.pop("logits"), labels, found)


def _make(place: Path, model: Classifier, images: Any, names: list[str], how: dict[str, Any]) -> dict[str, np.ndarray]:
    """The missing arrays, in memory and put on disk."""
    made = extract(model, images, names, **how)
    fresh = {"penultimate": made.penultimate, "logits": made.logits, **made.extras}
    for name in names if distributed.is_main() else ():
        _write(_file(place, name), fresh[name])
    return {name: fresh[name] for name in names}


def _stream(place: Path, model: Classifier, images: Any, names: list[str], how: dict[str, Any]) -> dict[str, np.ndarray]:
    """The missing arrays as files that grow batch by batch. How many rows are safe stands beside them, so that a killed run goes on from there."""
    place.mkdir(parents=True, exist_ok=True)
    state = place / f"{digest(*names)[:16]}.rows.json"
    parts = {name: state.with_suffix(f".{_file(place, name).name}") for name in names}  # rows.npy files of this set of needs alone
    done = json.loads(state.read_text()) if state.exists() and all(part.exists() for part in parts.values()) else 0
    files = {name: np.load(part, mmap_mode="r+") for name, part in parts.items()} if done else {}
    unsafe = 0
    rest = passes(model, images, names, first=done, **how) if done < len(images) else ()  # killed after the last row
    for start, batch in rest:
        for name in names:
            values = batch[name]
            if name not in files:
                files[name] = np.lib.format.open_memmap(parts[name], "w+", values.dtype, (len(images), *values.shape[1:]))
            files[name][start : start + len(values)] = values
            unsafe += values.nbytes
        if unsafe >= STRIDE_BYTES:
            _flush(files, state, start + len(batch[names[0]]))
            unsafe = 0
    _flush(files, state, len(images))
    files.clear()
    for name, part in parts.items():
        part.replace(_file(place, name))
    state.unlink()
    return {name: np.load(_file(place, name), mmap_mode="r") for name in names}


def _flush(files: dict[str, np.memmap], state: Path, rows: int) -> None:
    for file in files.values():
        file.flush()
    checkpoint.write_atomically(state, lambda part: part.write_text(json.dumps(rows)))


def _file(place: Path, name: str) -> Path:
    return place / (re.sub(r"[^A-Za-z0-9.=-]", "_", name) + ".npy")


def _write(path: Path, array: np.ndarray) -> None:
    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, array)

    checkpoint.write_atomically(path, write)


def _read(path: Path, rows: int, mapped: bool) -> np.ndarray | None:
    if not path.exists():
        return None
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    except (ValueError, EOFError, OSError):
        return None
    return array if len(array) == rows else None
