"""A set of images and, behind them, the same images cut into tiles that change places: a class of its own (TagFog)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from common.cli.errors import UserError
from common.data.folders import FolderImages
from common.data.images import Images, Rows, split

Orders = UInt8[Tensor, "images tiles"]  # which tile of the image stands at each place, by rows


def with_jigsaw(images: Images | FolderImages, pieces: int, copies: int, seed: int) -> "Images | WithJigsaw":
    """`images` with their labels 0..K-1, and after them `copies` times all of them in pieces x pieces tiles put together at random, labelled K.

    Which tile goes where follows from the seed and the row: the same in every epoch. Raises UserError unless the tiles are whole pixels, and at
    most 256.
    """
    for side in images.size_px:
        if not 1 < pieces <= 16 or side % pieces:
            raise UserError(f"pieces must be in 2..16 and divide the images' side, {side} px, got {pieces}")
    drawn = torch.Generator().manual_seed(seed)
    orders = [torch.rand(len(images), pieces**2, generator=drawn).argsort(1).to(torch.uint8) for _ in range(copies)]
    whole = WithJigsaw(images, torch.cat(orders), pieces)
    if not isinstance(images, Images):
        return whole
    (pixels,) = whole.whole_batches(torch.arange(len(whole)), len(whole))
    return Images(images.name, pixels, whole.labels, classes=images.classes, facts=images.facts)


@dataclass(frozen=True, eq=False)
class WithJigsaw:
    """Read as the set that it wraps; crops for training are cut from images at the network's size, not from their files."""

    images: Images | FolderImages
    orders: Orders  # of the rows behind those of `images`
    pieces: int

    def __len__(self) -> int:
        return len(self.images) + len(self.orders)

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the images that are whole."""
        return self.images.classes

    @property
    def facts(self) -> dict:
        return self.images.facts

    @property
    def size_px(self) -> tuple[int, int]:
        return self.images.size_px

    @property
    def labels(self) -> Int64[Tensor, " images"]:
        own = self.images.labels
        return torch.cat([own, own.new_full((len(self.orders),), len(self.classes))])

    @property
    def digest(self) -> str:
        return hashlib.sha256(
            f"{self.images.digest} {self.pieces} ".encode() + self.orders.numpy().tobytes()
        ).hexdigest()

    def batches(self, batch_size: int) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """All images in order, a batch at a time."""
        return self.whole_batches(torch.arange(len(self)), batch_size)

    def whole_batches(self, order: Rows, batch_size: int = 0) -> Iterator[UInt8[Tensor, "batch 3 height width"]]:
        """The rows `order`, a batch at a time."""
        blocks, count = split(order, batch_size), len(self.images)
        for rows, pixels in zip(blocks, self.images.whole_batches([rows % count for rows in blocks])):
            cut = (rows >= count).nonzero()[:, 0]
            orders = self.orders[rows[cut] - count]
            cut = cut.to(pixels.device)
            yield pixels.index_copy(0, cut, shuffled(pixels[cut], orders, self.pieces))


def shuffled(
    pixels: UInt8[Tensor, "batch 3 height width"], orders: Orders, pieces: int
) -> UInt8[Tensor, "batch 3 height width"]:
    """Each image's tiles in its own order."""
    tiles = pixels.unflatten(2, (pieces, -1)).unflatten(4, (pieces, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    rows = torch.arange(len(pixels), device=pixels.device)[:, None]
    tiles = tiles[rows, orders.long().to(pixels.device)].unflatten(1, (pieces, pieces))
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
