"""Augmentation on the device, in batches, image by image: no worker processes, no PIL in the loop.

torchvision draws once a batch, so the draws are ours; each operation, given what was drawn, is torchvision's (a test compares them image by
image). Nothing here reads a value back from the device.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

Batch = Float[Tensor, "batch 3 height width"]
Each = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training image. Strengths of the jitter: TagFog's public code (brightness, contrast, saturation, hue)."""

    crop: str = "pad"  # "pad", "resized", "window", "none"
    crop_padding: str = "zero"  # "zero", "reflect"
    pad_px: int = 4
    window_px: int = 0  # side of the part that crop "window" takes, at most the image's
    area_low: float = 0.2  # smallest share of the area of a resized crop; its aspect ratio is 3/4 to 4/3
    flip: bool = True
    jitter: bool = False
    jitter_strength: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8


def augment(
    images: UInt8[Tensor, "batch 3 height width"], how: Augmentation, generator: torch.Generator
) -> Float[Tensor, "batch 3 rows cols"]:
    """Floats in [0, 1], each image with its own crop, flip and jitter. `generator` lives on the images' device."""
    batch, (height, width), device = len(images), images.shape[2:], images.device
    floats = images.float() / 255
    if how.crop == "pad":
        dy, dx = torch.randint(0, 2 * how.pad_px + 1, (2, batch), generator=generator, device=device)
        floats = crop_pad(floats, dy, dx, how.pad_px, how.crop_padding)
    elif how.crop == "window":
        dy, dx = (
            torch.randint(0, n - how.window_px + 1, (batch,), generator=generator, device=device)
            for n in (height, width)
        )
        floats = window(floats, dy, dx, how.window_px)
    elif how.crop == "resized":
        floats = resized_crop(floats, draw_boxes(batch, height, width, how.area_low, generator, device))
    if how.flip:
        floats = flip(floats, torch.rand(batch, generator=generator, device=device) < 0.5)
    if how.jitter:
        strength = torch.tensor(how.jitter_strength, device=device)
        factors = torch.tensor([1.0, 1, 1, 0], device=device) + strength * (
            2 * torch.rand(batch, 4, generator=generator, device=device) - 1
        )
        chosen = torch.rand(batch, generator=generator, device=device) < how.jitter_probability
        rank = torch.randperm(batch, generator=generator, device=device)
        floats = torch.where(chosen[:, None, None, None], color_jitter(floats, factors, rank), floats)
    return floats


# --- crop and flip -------------------------------------------------------------------------------------------------------------------


def crop_pad(images: Batch, dy: Int64[Tensor, " batch"], dx: Int64[Tensor, " batch"], pad_px: int, mode: str) -> Batch:
    """Each image padded by `pad_px` and cut at its own offset (0..2 pad_px) to its old size. `mode`: "zero" or "reflect"."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (pad_px,) * 4, mode="constant" if mode == "zero" else mode)
    rows = (dy[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    cols = (dx[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(3, device=images.device)[None, :, None, None]
    return padded[batch, channels, rows, cols]


def window(
    images: Batch, dy: Int64[Tensor, " batch"], dx: Int64[Tensor, " batch"], side_px: int
) -> Float[Tensor, "batch 3 side side"]:
    """The square of `side_px` that begins at each image's own row dy and column dx."""
    rows = (dy[:, None] + torch.arange(side_px, device=images.device))[:, None, :, None]
    cols = (dx[:, None] + torch.arange(side_px, device=images.device))[:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    return images[batch, torch.arange(images.shape[1], device=images.device)[None, :, None, None], rows, cols]


def flip(images: Batch, which: Bool[Tensor, " batch"]) -> Batch:
    """The chosen images mirrored left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def draw_boxes(
    batch: int, height: int, width: int, area_low: float, generator: torch.Generator, device: torch.device
) -> Int64[Tensor, "batch 4"]:
    """Boxes (top, left, height, width) as torchvision's RandomResizedCrop draws them: of ten tries the first that fits, else the whole image."""
    draws = torch.rand(4, batch, 10, generator=generator, device=device)
    area = height * width * (area_low + (1 - area_low) * draws[0])
    ratio = torch.exp(torch.log(torch.tensor(4 / 3)) * (2 * draws[1] - 1))
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)
    none = ~fits.any(1)
    w, h = torch.where(none, float(width), w), torch.where(none, float(height), h)
    top, left = (draws[2, :, 0] * (height - h + 1)).floor(), (draws[3, :, 0] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], dim=1).long()


def resized_crop(images: Batch, boxes: Int64[Tensor, "batch 4"]) -> Batch:
    """Each box of (top, left, height, width) resized to the image's size, bilinear, half-pixel; nothing outside the box is read."""
    height, width = images.shape[2:]
    y0, y1, fy = _sources(boxes[:, 0], boxes[:, 2], height)
    x0, x1, fx = _sources(boxes[:, 1], boxes[:, 3], width)
    rows = torch.arange(len(images), device=images.device)[:, None, None]
    take = lambda y, x: images[rows, :, y[:, :, None], x[:, None, :]]  # noqa: E731  batch height width 3
    fy, fx = fy[:, :, None, None], fx[:, None, :, None]
    upper = take(y0, x0) * (1 - fx) + take(y0, x1) * fx
    lower = take(y1, x0) * (1 - fx) + take(y1, x1) * fx
    return (upper * (1 - fy) + lower * fy).permute(0, 3, 1, 2).contiguous()


def _sources(start: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `size` output pixels the two source pixels of an axis, and the share of the second."""
    step = length[:, None] / size
    place = ((torch.arange(size, device=start.device) + 0.5) * step - 0.5).clamp_min(0)
    first = place.floor().long()
    second = torch.minimum(first + 1, length[:, None] - 1)
    return start[:, None] + first, start[:, None] + second, place - first


# --- colour: each operation on floats in [0, 1], one factor an image -----------------------------------------------------------------


def grey(images: Batch) -> Float[Tensor, "batch 1 height width"]:
    return (0.2989 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]).unsqueeze(1)


def _blend(images: Batch, other: Tensor, factors: Each) -> Batch:
    factors = factors[:, None, None, None]
    return (factors * images + (1 - factors) * other).clamp(0, 1)


def adjust_brightness(images: Batch, factors: Each) -> Batch:
    return (factors[:, None, None, None] * images).clamp(0, 1)


def adjust_contrast(images: Batch, factors: Each) -> Batch:
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factors)


def adjust_saturation(images: Batch, factors: Each) -> Batch:
    return _blend(images, grey(images), factors)


def adjust_hue(images: Batch, shifts: Each) -> Batch:
    """Hue turned by a share of the circle (-0.5..0.5)."""
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    safe = torch.where(chroma > 0, chroma, 1.0)
    r, g, b = images.unbind(1)
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    hue = hue + 6 * shifts[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (n + hue) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1).clamp(0, 1)


OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
ORDERS = tuple(permutations(range(4)))


def order_of(rank: int) -> tuple[int, int, int, int]:
    """The order of operations of the image with this rank."""
    return ORDERS[rank % len(ORDERS)]


@lru_cache(maxsize=8)
def _rows(batch: int, device: torch.device) -> list[list[Tensor]]:
    """For each of the four turns and each operation: the ranks whose order has that operation there. Known without a look at the device."""
    return [
        [
            torch.tensor([r for r in range(batch) if order_of(r)[turn] == op], dtype=torch.int64, device=device)
            for op in range(4)
        ]
        for turn in range(4)
    ]


def color_jitter(images: Batch, factors: Float[Tensor, "batch 4"], rank: Int64[Tensor, " batch"]) -> Batch:
    """Brightness, contrast, saturation and hue by each image's own factors, in an order of its own.

    `rank` is a permutation of the batch: image rank[r] gets the r-th of the 24 orders, in turn. So each order is as likely as another for
    any image, and which rows an operation works on is known beforehand.
    """
    out, factors = images[rank], factors[rank]
    for turn in _rows(len(images), images.device):
        done = torch.empty_like(out)
        for op, rows in enumerate(turn):
            done[rows] = OPERATIONS[op](out[rows], factors[rows, op])
        out = done
    return torch.empty_like(out).index_copy_(0, rank, out)


# --- mixup ------------------------------------------------------------------------------------------------------------------------------
