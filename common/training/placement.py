"""Images and their masks scaled, mirrored and seen through one window: drawn and applied as in augment.py."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from common.data.masks import IGNORE


class Placement(NamedTuple):
    """Where each image of a batch is put: scaled to `size`, mirrored or not, and seen through a window that begins at `offset`.

    `size` and `offset` are rows and columns in pixels of the scaled image; a window that begins before 0 or ends behind the image shows padding.
    """

    size: Int64[Tensor, "batch 2"]
    offset: Int64[Tensor, "batch 2"]
    mirrored: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class JointAugmentation:
    """What is drawn for each image and its mask."""

    scale_low: float = 0.5
    scale_high: float = 2.0
    flip: bool = True

    def draw(self, batch: int, size: tuple[int, int], generator: torch.Generator) -> Placement:
        """A scale an image (uniform, both sides alike), a uniform position of the window in the image or of the image in the window, a mirror.

        `size` is the images' and the window's, in pixels. `generator` lives on the CPU.
        """
        uniform = torch.rand(4, batch, generator=generator, dtype=torch.float64)
        scale = self.scale_low + (self.scale_high - self.scale_low) * uniform[0]
        frame = torch.tensor(size)
        scaled = (scale[:, None] * frame).round().long().clamp_min(1)
        room = scaled - frame  # below 0: the image is smaller than the window
        offset = ((room.abs() + 1) * uniform[1:3].T).floor().long() * room.sign()
        return Placement(scaled, offset, (uniform[3] < 0.5) & self.flip)

    def apply(
        self,
        pixels: UInt8[Tensor, "batch 3 height width"],
        draws: Placement,
        masks: Bool[Tensor, "batch height width"] | None = None,
    ) -> tuple[Float[Tensor, "batch 3 height width"], Int64[Tensor, "batch height width"] | None]:
        """Images in [0, 1] and, under the same placement, 1 foreground, 0 background, IGNORE padding."""
        place = Placement(*(numbers.to(pixels.device) for numbers in draws))
        return place_images(pixels.float() / 255, place), None if masks is None else place_masks(masks, place)


def _axis(place: Placement, axis: int, length: int) -> tuple[Tensor, Tensor]:
    """For each output pixel its position in the source, in pixels from the border (0..length), and whether it lies in the image at all."""
    size, offset = place.size[:, axis, None], place.offset[:, axis, None]
    p = torch.arange(length, device=size.device) + offset
    inside = (0 <= p) & (p < size)
    if axis == 1:
        p = torch.where(place.mirrored[:, None], size - 1 - p, p)
    return (p + 0.5).double() * length / size, inside


def place_images(
    images: Float[Tensor, "batch channels height width"], place: Placement
) -> Float[Tensor, "batch channels height width"]:
    """Bilinear with half-pixel centres (as torch's resize without antialiasing), each image by its own two matrices; padding is 0."""
    made = []
    for axis, length in enumerate(images.shape[-2:]):
        position, inside = _axis(place, axis, length)
        s = (position - 0.5).clamp(0, length - 1)
        low = s.floor()
        high_share = (s - low).to(images.dtype)[..., None]
        low = low.long()[..., None]
        matrix = images.new_zeros(len(images), length, length)
        matrix.scatter_add_(2, low, 1 - high_share).scatter_add_(2, (low + 1).clamp_max(length - 1), high_share)
        made.append((matrix * inside[..., None]).unsqueeze(1))
    rows, cols = made
    return rows @ images @ cols.mT


def place_masks(masks: Bool[Tensor, "batch height width"], place: Placement) -> Int64[Tensor, "batch height width"]:
    """1 foreground, 0 background, IGNORE padding: the nearest source pixel, under the placement of the images."""
    (position, inside_rows), (position_cols, inside_cols) = (
        _axis(place, axis, n) for axis, n in enumerate(masks.shape[-2:])
    )
    rows = position.floor().long().clamp(0, masks.shape[1] - 1)[:, :, None]
    cols = position_cols.floor().long().clamp(0, masks.shape[2] - 1)[:, None, :]
    batch = torch.arange(len(masks), device=masks.device)[:, None, None]
    chosen = masks[batch, rows, cols].long()
    return chosen.masked_fill(~(inside_rows[:, :, None] & inside_cols[:, None, :]), IGNORE)
