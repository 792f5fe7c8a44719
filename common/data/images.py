"""A set of images as the suite sees it: uint8, one size, with a digest of its content."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

Rows = Int64[Tensor, " chosen"] | list[Int64[Tensor, " _"]]  # rows to be cut into batches, or batches of rows


def split(order: Rows, batch_size: int) -> list[Int64[Tensor, " _"]]:
    return order if isinstance(order, list) else list(order.split(batch_size))


@dataclass(frozen=True)
class Images:
    """Images in memory, on any device.

    `pixels` are RGB, 0-255. `labels` are 0..K-1, None where a set has none. `masks` (True = foreground) exist only where the truth is
    known, as in the generated benchmark. `digest` is the SHA-256 of pixels and labels: two sets with one digest are the same images.
    """

    name: str
    pixels: UInt8[Tensor, "images 3 height width"]
    labels: Int64[Tensor, " images"] | None = None
    masks: Bool[Tensor, "images height width"] | None = None
    classes: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)  # plain values for provenance: transform, encoding, class list hash, ...
    digest: str = ""

    def __post_init__(self):
        if not self.digest:
            object.__setattr__(self, "digest", content_digest(self.pixels, self.labels))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size_px(self) -> tuple[int, int]:
        return tuple(self.pixels.shape[-2:])

    def to(self, device: torch.device | str) -> "Images":
        """The same set with its tensors on `device`."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved)

    def subset(self, index: Int64[Tensor, " chosen"], name: str | None = None) -> "Images":
        """The chosen rows, in the order given; its digest is its own."""
        index = index.to(self.pixels.device)
        chosen = {name: tensor[index] for name, tensor in self._tensors().items()}
        return replace(self, name=name or self.name, digest="", **chosen)

    def _tensors(self) -> dict[str, Tensor]:
        there = {"pixels": self.pixels, "labels": self.labels, "masks": self.masks}
        return {name: tensor for name, tensor in there.items() if tensor is not None}

    def batches(self, batch_size: int) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """All images in order, a batch at a time."""
        return iter(self.pixels.split(batch_size))

    def whole_batches(self, order: Rows, batch_size: int = 0) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """The rows `order`, a batch at a time, as they are scored."""
        for index in split(order, batch_size):
            yield self.pixels[index.to(self.pixels.device)]


def content_digest(pixels: UInt8[Tensor, "images 3 height width"], labels: Int64[Tensor, " images"] | None) -> str:
    """SHA-256 over shape, pixels and labels, independent of device and memory format."""
    sha = hashlib.sha256(str(tuple(pixels.shape)).encode())
    for block in pixels.split(4096):
        sha.update(block.cpu().contiguous().numpy().tobytes())
    if labels is not None:
        sha.update(labels.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def pixel_keys(pixels: UInt8[Tensor, "images 3 height width"]) -> list[bytes]:
    """SHA-256 of each image's pixels: equal where they are."""
    return [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest() for image in pixels]


def balanced_subset(
    labels: Int64[Tensor, " images"], count: int, generator: torch.Generator
) -> Int64[Tensor, " chosen"]:
    """`count` rows with the classes as equal as they can be, drawn by `generator`, in ascending order."""
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order.to(labels.device)].cpu()
    rank = torch.empty(len(labels), dtype=torch.int64)  # of each row among those of its class
    for k in shuffled.unique():
        rows = (shuffled == k).nonzero().squeeze(1)
        rank[rows] = torch.arange(len(rows))
    return order[torch.argsort(rank, stable=True)[:count]].sort().values
