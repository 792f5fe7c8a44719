"""Folders of images: decoded into memory where they fit, streamed by worker processes where they do not."""

import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.cli.errors import UserError
from common.data.images import Rows, split
from common.data.listing import File, Items, Member
from common.data.transforms import INTERPOLATIONS, Transform

HASH_LIMIT = 50_000  # above it a digest reads names and sizes only: reading 150 GB to name a set costs hours


def decode(path: File) -> Image.Image:
    """The image as RGB. Raises UserError naming the file where it does not decode to its last row."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path} is gone") from None
    except (
        Exception
    ) as error:  # PIL raises OSError, SyntaxError, ValueError, DecompressionBombError, struct.error, ... by format
        raise UserError(f"{path} does not decode as an image ({type(error).__name__})") from None


def at_size(item: File | np.ndarray, transform: Transform) -> UInt8[np.ndarray, "height width 3"]:
    """One image, decoded if it is a path, at the transform's size."""
    image = decode(item) if isinstance(item, File) else Image.fromarray(item)
    return np.asarray(transform(image))


def in_memory(items: Items, transform: Transform) -> UInt8[Tensor, "images 3 height width"]:
    """All images at the transform's size. Threads suffice: PIL decodes and resamples outside Python's lock."""
    if isinstance(items, np.ndarray) and items.shape[1:3] == (transform.size_px,) * 2 and transform.rule != "via32":
        return torch.from_numpy(np.ascontiguousarray(items.transpose(0, 3, 1, 2)))
    pixels = torch.empty((len(items), 3, transform.size_px, transform.size_px), dtype=torch.uint8)

    def place(row: int) -> None:
        pixels[row] = torch.from_numpy(at_size(items[row], transform).transpose(2, 0, 1).copy())

    with ThreadPoolExecutor(worker_count()) as pool:
        for _ in pool.map(place, range(len(items))):  # the loop raises what a thread raised
            pass
    return pixels


def worker_count() -> int:
    return max(1, min(8, os.cpu_count() or 1))


def file_size(path: File) -> int:
    return path.size if isinstance(path, Member) else path.stat().st_size


def files_digest(paths: Sequence[File], names: Sequence[str], limit: int = HASH_LIMIT) -> tuple[str, str]:
    """(SHA-256 over sorted names, sizes and contents, what it covers). Above `limit` files the contents are left out."""
    contents = len(paths) <= limit
    sha = hashlib.sha256()
    for name, path in sorted(zip(names, paths)):
        sha.update(f"{name}\0{file_size(path)}\0".encode())
        if contents:
            sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest(), "names, sizes and contents" if contents else "names and sizes"


@dataclass(frozen=True)
class FolderImages:
    """Images on disk that are decoded each time they are read; otherwise used like `Images`.

    `digest` covers the files (see `files_digest`; facts["digest_covers"] says how much), the labels and the transform.
    """

    name: str
    paths: tuple[File, ...]
    names: tuple[str, ...]  # paths below the set's folder: what the digest and the draws are made of
    transform: Transform
    labels: Int64[Tensor, " images"] | None = None
    classes: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)
    digest: str = ""
    workers: int = field(default_factory=worker_count)  # 0 = decode in this process
    on_corrupt: str = (
        "stop"  # "skip": in training, another image of the class takes the place of one that does not decode
    )
    skipped: set[str] = field(default_factory=set, compare=False)  # the files that were skipped so far

    def __post_init__(self):
        if not self.digest:
            files, covers = files_digest(self.paths, self.names)
            sha = hashlib.sha256(repr((files, sorted(self.transform.facts().items()))).encode())
            if self.labels is not None:
                sha.update(self.labels.numpy().tobytes())
            object.__setattr__(self, "digest", sha.hexdigest())
            object.__setattr__(self, "facts", self.facts | {"digest_covers": covers})

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size_px(self) -> tuple[int, int]:
        return (self.transform.size_px, self.transform.size_px)

    def subset(self, index: Int64[Tensor, " chosen"], name: str | None = None) -> "FolderImages":
        """The chosen rows, in the order given; its digest is its own."""
        rows = index.tolist()
        paths, names = tuple(self.paths[row] for row in rows), tuple(self.names[row] for row in rows)
        labels = None if self.labels is None else self.labels[index]
        return replace(self, name=name or self.name, paths=paths, names=names, labels=labels, digest="")

    def batches(self, batch_size: int) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """All images in order, a batch at a time, through the transform."""
        return self.whole_batches(torch.arange(len(self)), batch_size)

    def whole_batches(self, order: Rows, batch_size: int = 0) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """The rows `order`, a batch at a time, through the transform, as they are scored: no crop is drawn."""
        return self._stream(_Decoded(self.paths, self.transform), order, batch_size)

    def training_batches(
        self, order: Rows, batch_size: int, seed: int, crop: tuple[float, float] = (0.08, 1.0), views: int = 1
    ) -> Iterator[UInt8[Tensor, "views batch 3 height width"]]:
        """The rows `order`, each view of each through its own random resized crop with a share of the area in `crop`.

        A crop depends on (seed, row, view) alone: the number of workers, the batch size and the order do not change it. With on_corrupt
        "skip" the next image of the same class stands in for one that does not decode; it is named once, and counted in `skipped`.
        """
        labels = self.labels if self.on_corrupt == "skip" else None
        crops = self._stream(_Cropped(self.paths, self.transform, seed, crop, views, labels), order, batch_size)
        return (batch.transpose(0, 1) for batch in crops)

    def _stream(self, images: Dataset, rows: Rows, batch_size: int) -> Iterator[Tensor]:
        blocks = [block.tolist() for block in split(rows, batch_size)]
        workers = min(self.workers, len(blocks) - 1)  # one batch is not worth a process
        loader = DataLoader(images, batch_sampler=blocks, num_workers=max(0, workers), collate_fn=_stack)
        try:
            for batch, errors in loader:
                if (
                    batch is None
                ):  # an error crosses the process border as text, so that it keeps its type and its one line
                    raise UserError(errors[0])
                self._note(errors)
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{self.name}: a process that decodes images died ({str(error).splitlines()[0]}); is there memory for {workers} of them?"
            ) from None

    def _note(self, errors: list[str]) -> None:
        for error in errors:
            if error not in self.skipped:
                self.skipped.add(error)
                print(
                    f"{error}; another image of its class takes its place ({len(self.skipped)} so far)", file=sys.stderr
                )


def random_resized_crop(
    image: Image.Image, area: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Box (left, upper, right, lower) of an Inception crop: `area` of the image, aspect ratio 3/4 to 4/3, ten tries, else the centre.

    The rule is torchvision's RandomResizedCrop.get_params; only the source of random numbers differs.
    """
    width, height = image.size
    for _ in range(10):
        target = width * height * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


class _Decoded(Dataset):
    """Row -> (pixels, channels last, or None; error or None)."""

    def __init__(self, paths: tuple[File, ...], transform: Transform):
        self.paths, self.transform = paths, transform

    def __getitem__(self, row: int) -> tuple[np.ndarray | None, str | None]:
        try:
            return self.read(row), None
        except UserError as error:
            return None, str(error)

    def read(self, row: int) -> np.ndarray:
        return at_size(self.paths[row], self.transform)


class _Cropped(_Decoded):
    """Crops of each image, one a view. With `labels`, a row that does not decode is replaced by the next of its class that does."""

    def __init__(
        self, paths: tuple[File, ...], transform: Transform, seed: int, area: tuple[float, float], views: int,
        labels: Tensor | None = None,
    ):  # fmt: skip
        super().__init__(paths, transform)
        self.seed, self.area, self.views, self.labels = seed, area, views, labels

    def __getitem__(self, row: int) -> tuple[np.ndarray | None, str | None]:
        pixels, error = super().__getitem__(row)
        if pixels is None and self.labels is not None:
            same = (self.labels == self.labels[row]).nonzero().squeeze(1).tolist()
            here = same.index(row)
            tries = (super(_Cropped, self).__getitem__(other)[0] for other in same[here + 1 :] + same[:here])
            pixels = next((found for found in tries if found is not None), None)
        return pixels, error

    def read(self, row: int) -> np.ndarray:
        image, square = decode(self.paths[row]), (self.transform.size_px,) * 2
        crops = []
        for view in range(self.views):
            rng = np.random.default_rng([self.seed, row, view])
            crop = image.crop(random_resized_crop(image, self.area, rng))
            crops.append(np.asarray(crop.resize(square, INTERPOLATIONS[self.transform.interpolation])))
        return np.stack(crops)


def _stack(rows: list[tuple[np.ndarray | None, str | None]]) -> tuple[Tensor | None, list[str]]:
    """The batch, channels first, or None where an image is missing (its error then comes first), and all errors."""
    missing = [error for pixels, error in rows if pixels is None]
    if missing:
        return None, missing
    batch = np.moveaxis(np.stack([pixels for pixels, _ in rows]), -1, -3)
    return torch.from_numpy(batch.copy()), [error for _, error in rows if error is not None]
