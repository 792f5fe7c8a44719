"""Files of images, scored one by one: what cannot be read costs its own row and no other."""

import glob
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from common.cli.errors import UserError
from common.data.folders import at_size, worker_count
from common.data.images import Images
from common.data.listing import File, all_files
from common.data.own import read_own
from common.data.specs import parse
from common.scoring.detector import Detector

LIST = ".txt"


def files_of(words: Sequence[str]) -> list[File]:
    """What the words lead to, each file once, in their order: files, folders with all images below them, patterns, lists (`.txt`, a path a line,
    from the current folder; `list:FILE` as a set's). Raises UserError for a word that leads to nothing."""
    found: dict[File, None] = {}
    for word in words:
        if not (files := _of_word(word)):
            raise UserError(f"{word}: no image there")
        found |= dict.fromkeys(files)
    return list(found)


def _of_word(word: str) -> list[File]:
    path = Path(word)
    if word.startswith("list:"):
        return list(read_own(*parse(word), "test").items)
    if path.is_dir():
        return [file for _, file in all_files(path)]
    if path.suffix.lower() == LIST and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except ValueError as error:
            raise UserError(f"{path} is no list of files ({error})") from error
        return [Path(line.strip()) for line in lines if line.strip()]
    if path.exists():
        return [path]
    matches = sorted(glob.glob(word, recursive=True))
    return [file for match in matches for file in _of_word(match)]


def judged(
    detector: Detector, files: Sequence[File], stop: bool = False, progress: bool = False
) -> Iterator[tuple[File, tuple[int, float] | str]]:
    """Number of the class and score of each file, or what is wrong with it; with `stop` that is raised. One batch is decoded while another passes."""
    size = detector.batch_size
    blocks = [files[start : start + size] for start in range(0, len(files), size)]
    bar = tqdm(total=len(files), unit="image", disable=not progress, file=sys.stderr, mininterval=1.0, leave=False)
    with bar, ThreadPoolExecutor(worker_count()) as pool:
        coming = _decoding(pool, blocks[0], detector) if blocks else []
        for number, block in enumerate(blocks):
            decoding = coming
            if number + 1 < len(blocks):
                coming = _decoding(pool, blocks[number + 1], detector)
            pixels = [future.result() for future in decoding]
            yield from zip(block, _judged(detector, pixels, stop))
            bar.update(len(block))


def _decoding(pool: ThreadPoolExecutor, block: Sequence[File], detector: Detector) -> list:
    def pixels(file: File) -> np.ndarray | str:
        try:
            return at_size(file, detector.transform)
        except UserError as error:
            return str(error)

    return [pool.submit(pixels, file) for file in block]


def _judged(detector: Detector, pixels: list[np.ndarray | str], stop: bool) -> list[tuple[int, float] | str]:
    good = [one for one in pixels if not isinstance(one, str)]
    if stop and len(good) < len(pixels):
        raise UserError(next(one for one in pixels if isinstance(one, str)))
    if not good:
        return pixels
    batch = torch.from_numpy(np.stack(good).transpose(0, 3, 1, 2).copy())
    numbers, scores = detector.judge(Images("files", batch, digest="of a batch"))
    found = iter(zip(numbers.tolist(), scores.tolist()))
    return [one if isinstance(one, str) else next(found) for one in pixels]
