"""Folders of images: decoded into memory where they fit, streamed by worker processes where they do not."""

import hashlib
import math
import os
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
from common.data.decoding import RULE, decode, read
from common.data.images import Rows, pixel_keys, split
from common.data.listing import File, Items, Member
from common.data.transforms import INTERPOLATIONS, Transform

HASH_LIMIT = 50_000  # above it a digest reads names and sizes only: reading 150 GB to name a set costs hours


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


def undecodable(files: Sequence[File]) -> dict[int, str]:
    """Row and error of each file that does not decode. Every file is decoded once to find out."""

    def error(file: File) -> str:
        try:
            decode(file)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(worker_count()) as pool:
        return {row: error for row, error in enumerate(pool.map(error, files)) if error}


def file_keys(files: Sequence[File], limit: int = HASH_LIMIT) -> tuple[bytes, ...]:
    """SHA-256 of each file's content; of more than `limit` files () instead."""
    if len(files) > limit:
        return ()
    with ThreadPoolExecutor(worker_count()) as pool:
        return tuple(pool.map(lambda file: hashlib.sha256(read(file)).digest(), files))


def files_digest(files: Sequence[File], names: Sequence[str], keys: Sequence[bytes]) -> str:
    """SHA-256 over sorted names, sizes and, where they are there, keys of the contents."""
    sha = hashlib.sha256(f"decoding {RULE}\0".encode())
    for row in sorted(range(len(names)), key=names.__getitem__):
        sha.update(os.fsencode(names[row]) + f"\0{file_size(files[row])}\0".encode() + (keys[row] if keys else b""))
    return sha.hexdigest()


def file_size(file: File) -> int:
    try:
        return file.size if isinstance(file, Member) else file.stat().st_size
    except OSError:
        return len(read(file))  # says what is wrong with it


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
    keys: tuple[bytes, ...] | None = (
        None  # of the contents, see `file_keys`; None = to be made, () = none, of pixels neither
    )
    workers: int = field(default_factory=worker_count)  # 0 = decode in this process
    seen: dict[int, bytes] = field(default_factory=dict, compare=False)  # `pixel_keys` of the rows that were read whole

    def __post_init__(self):
        if self.keys is None:
            object.__setattr__(self, "keys", file_keys(self.paths))
        if not self.digest:
            files = files_digest(self.paths, self.names, self.keys)
            sha = hashlib.sha256(repr((files, sorted(self.transform.facts().items()))).encode())
            if self.labels is not None:
                sha.update(self.labels.numpy().tobytes())
            covers = "names, sizes and contents" if self.keys else "names and sizes"
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
        paths, names, keys = (tuple(all_[row] for row in rows if all_) for all_ in (self.paths, self.names, self.keys))
        labels = None if self.labels is None else self.labels[index]
        chosen = {"paths": paths, "names": names, "keys": keys, "labels": labels}
        return replace(self, name=name or self.name, digest="", seen={}, **chosen)

    def batches(self, batch_size: int) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """All images in order, a batch at a time, through the transform."""
        return self.whole_batches(torch.arange(len(self)), batch_size)

    def whole_batches(self, order: Rows, batch_size: int = 0) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """The rows `order`, a batch at a time, through the transform, as they are scored: no crop is drawn."""
        return self._stream(_Decoded(self.paths, self.transform, bool(self.keys)), order, batch_size)

    def training_batches(
        self, order: Rows, batch_size: int, seed: int, crop: tuple[float, float] = (0.08, 1.0), views: int = 1
    ) -> Iterator[UInt8[Tensor, "views batch 3 height width"]]:
        """The rows `order`, each view of each through its own random resized crop with a share of the area in `crop`.

        A crop depends on (seed, row, view) alone: the number of workers, the batch size and the order do not change it.
        """
        crops = self._stream(_Cropped(self.paths, self.transform, seed, crop, views), order, batch_size)
        return (batch.transpose(0, 1) for batch in crops)

    def _stream(self, images: Dataset, rows: Rows, batch_size: int) -> Iterator[Tensor]:
        blocks = [block.tolist() for block in split(rows, batch_size)]
        workers = max(0, min(self.workers, len(blocks) - 1))  # one batch is not worth a process
        try:
            loader = DataLoader(images, batch_sampler=blocks, num_workers=workers, collate_fn=images.stack)
            for block, (batch, keys) in zip(blocks, loader):
                if isinstance(batch, str):
                    raise UserError(batch)
                self.seen.update(zip(block, keys))
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{self.name}: a process that decodes images died ({str(error).splitlines()[0]}); is there memory for {workers} of them?"
            ) from None


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
    """Row -> its pixels, channels last; or an error's text, which crosses the border of a process whole."""

    def __init__(self, paths: tuple[File, ...], transform: Transform, has_keys: bool = False):
        self.paths, self.transform, self.has_keys = paths, transform, has_keys

    def __getitem__(self, row: int) -> np.ndarray | str:
        try:
            return self.read(row)
        except UserError as error:
            return str(error)

    def read(self, row: int) -> np.ndarray:
        return at_size(self.paths[row], self.transform)

    def stack(self, rows: list[np.ndarray | str]) -> tuple[Tensor | str, list[bytes]]:
        """A batch, channels first, or the first error in it; and the images' keys, made here because here is where the processes are many."""
        errors = [row for row in rows if isinstance(row, str)]
        if errors:
            return errors[0], []
        batch = torch.from_numpy(np.moveaxis(np.stack(rows), -1, -3).copy())
        return batch, pixel_keys(batch) if self.has_keys else []


class _Cropped(_Decoded):
    """Crops of each image, one a view."""

    def __init__(
        self, paths: tuple[File, ...], transform: Transform, seed: int, area: tuple[float, float], views: int
    ):  # fmt: skip
        super().__init__(paths, transform)
        self.seed, self.area, self.views = seed, area, views

    def read(self, row: int) -> np.ndarray:
        image, square = decode(self.paths[row]), (self.transform.size_px,) * 2
        crops = []
        for view in range(self.views):
            rng = np.random.default_rng([self.seed, row, view])
            crop = image.crop(random_resized_crop(image, self.area, rng))
            crops.append(np.asarray(crop.resize(square, INTERPOLATIONS[self.transform.interpolation])))
        return np.stack(crops)
