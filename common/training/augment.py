"""Augmentation in batches, image by image: drawn for a whole batch on the CPU, then applied on the images' device. No PIL in the loop.

`draw` gives numbers, a row an image, from a generator on the CPU: the same crops on any device, and, since every process draws for the
global batch and applies the rows of its own images, in any number of processes. Masks ride along as one more plane.

torchvision draws once a batch, so the draws are ours; each operation, given what was drawn, is torchvision's (a test compares them image by
image). Nothing here reads a value back from the device.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

Batch = Float[Tensor, "batch 3 height width"]
Planes = Float[Tensor, "batch planes height width"]
Each = Float[Tensor, " batch"]


class Draws(NamedTuple):
    """What was drawn for each image of a batch, on the CPU; None where nothing was."""

    offset: Int64[Tensor, "batch 2"] | None = None  # first row and column of a padded crop or a window
    box: Int64[Tensor, "batch 4"] | None = None  # of a resized crop: top, left, height, width
    mirrored: Bool[Tensor, " batch"] | None = None
    factors: Float[Tensor, "batch 4"] | None = None  # of the jitter, one for each of OPERATIONS
    order: Int64[Tensor, " batch"] | None = None  # of these operations, a row of ORDERS
    jittered: Bool[Tensor, " batch"] | None = None
    greyed: Bool[Tensor, " batch"] | None = None


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
    grey_probability: float = 0.0

    def draw(self, batch: int, size: tuple[int, int], generator: torch.Generator) -> Draws:
        """The numbers for `batch` images of `size` (rows, columns, in pixels). `generator` lives on the CPU."""
        drawn = {}
        if self.crop == "pad":
            drawn["offset"] = torch.randint(0, 2 * self.pad_px + 1, (2, batch), generator=generator).T
        elif self.crop == "window":
            room = (n - self.window_px + 1 for n in size)
            drawn["offset"] = torch.stack([torch.randint(0, n, (batch,), generator=generator) for n in room], dim=1)
        elif self.crop == "resized":
            drawn["box"] = draw_boxes(batch, *size, self.area_low, generator)
        if self.flip:
            drawn["mirrored"] = torch.rand(batch, generator=generator) < 0.5
        if self.jitter:
            spread = 2 * torch.rand(batch, 4, generator=generator) - 1
            drawn["factors"] = torch.tensor([1.0, 1, 1, 0]) + torch.tensor(self.jitter_strength) * spread
            drawn["jittered"] = torch.rand(batch, generator=generator) < self.jitter_probability
            # A shuffled deck of the orders: each is as likely as another for any image.
            drawn["order"] = torch.randperm(batch, generator=generator).argsort() % len(ORDERS)
        if self.grey_probability:
            drawn["greyed"] = torch.rand(batch, generator=generator) < self.grey_probability
        return Draws(**drawn)

    def apply(
        self,
        pixels: UInt8[Tensor, "batch 3 height width"],
        draws: Draws,
        masks: Bool[Tensor, "batch height width"] | None = None,
    ) -> tuple[Float[Tensor, "batch 3 rows cols"], Bool[Tensor, "batch rows cols"] | None]:
        """Floats in [0, 1], each image with its own crop, flip, jitter and greyscale, and the masks with those crops and flips."""
        planes = pixels.float() / 255
        if masks is not None:
            planes = torch.cat([planes, masks[:, None].to(planes)], dim=1)
        planes = self.place(planes, draws)
        images = planes[:, :3].contiguous()
        if draws.jittered is not None:
            rows = draws.jittered.nonzero().squeeze(1)
            here = rows.to(images.device)
            done = color_jitter(images[here], draws.factors[rows].to(images.device), draws.order[rows])
            images = images.index_copy(0, here, done)
        if draws.greyed is not None:
            images = torch.where(draws.greyed.to(images.device)[:, None, None, None], grey(images), images)
        return images, None if masks is None else planes[:, 3] >= 0.5

    def place(self, planes: Planes, draws: Draws) -> Float[Tensor, "batch planes rows cols"]:
        """Crop and flip."""
        drawn = Draws(*(None if numbers is None else numbers.to(planes.device) for numbers in draws))
        if self.crop == "pad":
            planes = crop_pad(planes, *drawn.offset.T, self.pad_px, self.crop_padding)
        elif self.crop == "window":
            planes = cut(planes, *drawn.offset.T, (self.window_px, self.window_px))
        elif self.crop == "resized":
            planes = resized_crop(planes, drawn.box)
        return flip(planes, drawn.mirrored) if self.flip else planes


# --- crop and flip -------------------------------------------------------------------------------------------------------------------


def crop_pad(
    images: Planes, dy: Int64[Tensor, " batch"], dx: Int64[Tensor, " batch"], pad_px: int, mode: str
) -> Planes:
    """Each image padded by `pad_px` and cut at its own offset (0..2 pad_px) to its old size. `mode`: "zero" or "reflect"."""
    padded = F.pad(images, (pad_px,) * 4, mode="constant" if mode == "zero" else mode)
    return cut(padded, dy, dx, images.shape[-2:])


def cut(
    images: Planes, dy: Int64[Tensor, " batch"], dx: Int64[Tensor, " batch"], size: tuple[int, int]
) -> Float[Tensor, "batch planes rows cols"]:
    """The part of `size` (rows, columns) that begins at each image's own row dy and column dx."""
    batch, planes, rows, cols = (torch.arange(n, device=images.device) for n in (*images.shape[:2], *size))
    rows, cols = (dy[:, None] + rows)[:, None, :, None], (dx[:, None] + cols)[:, None, None, :]
    return images[batch[:, None, None, None], planes[None, :, None, None], rows, cols]


def flip(images: Planes, which: Bool[Tensor, " batch"]) -> Planes:
    """The chosen images mirrored left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def draw_boxes(
    batch: int, height: int, width: int, area_low: float, generator: torch.Generator
) -> Int64[Tensor, "batch 4"]:
    """Boxes (top, left, height, width) as torchvision's RandomResizedCrop draws them: of ten tries the first that fits, else the whole image."""
    draws = torch.rand(4, batch, 10, generator=generator)
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


def resized_crop(images: Planes, boxes: Int64[Tensor, "batch 4"]) -> Planes:
    """Each box of (top, left, height, width) resized to the image's size, bilinear, half-pixel; nothing outside the box is read."""
    height, width = images.shape[2:]
    y0, y1, fy = _sources(boxes[:, 0], boxes[:, 2], height)
    x0, x1, fx = _sources(boxes[:, 1], boxes[:, 3], width)
    rows = torch.arange(len(images), device=images.device)[:, None, None]
    take = lambda y, x: images[rows, :, y[:, :, None], x[:, None, :]]  # noqa: E731  batch height width planes
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
    k = torch.stack([n + hue for n in (5, 3, 1)], dim=1) % 6
    return (value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)).clamp(0, 1)


OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
ORDERS = tuple(permutations(range(4)))


def color_jitter(images: Batch, factors: Float[Tensor, "batch 4"], order: Int64[Tensor, " batch"]) -> Batch:
    """Brightness, contrast, saturation and hue by each image's own factors, in an order of its own: a row of ORDERS.

    `order` lives on the CPU, so which rows an operation works on is known without a look at the device.
    """
    turns = torch.tensor(ORDERS)[order].T  # which operation each image gets first, second, ...
    counts = F.one_hot(turns, len(OPERATIONS)).sum(1).tolist()
    for rows, sizes in zip(turns.argsort(dim=1, stable=True).to(images.device), counts):
        done = torch.empty_like(images)
        for op, chosen in enumerate(rows.split(sizes)):
            done[chosen] = OPERATIONS[op](images[chosen], factors[chosen, op])
        images = done
    return images
