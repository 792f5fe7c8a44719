"""Augmentation on the device, in batches, image by image: no worker processes, no PIL in the loop."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each training image."""

    crop: str = "pad"
    crop_padding: str = "zero"
    pad_px: int = 4
    area_low: float = 0.2
    flip: bool = True
    jitter: bool = False


def crop_pad(
    images: Float[Tensor, "batch 3 height width"], dy: Int64[Tensor, " batch"], dx: Int64[Tensor, " batch"], pad_px: int, mode: str
) -> Float[Tensor, "batch 3 height width"]:
    """Each image padded by `pad_px` and cut at its own offset (0..2 pad_px) to its old size."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (pad_px,) * 4, mode="constant" if mode == "zero" else mode)
    rows = (dy[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    cols = (dx[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(3, device=images.device)[None, :, None, None]
    return padded[batch, channels, rows, cols]


def flip(images: Float[Tensor, "batch 3 height width"], which: Bool[Tensor, " batch"]) -> Float[Tensor, "batch 3 height width"]:
    """The chosen images mirrored left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """uint8 images to floats in [0, 1], each with its own crop and flip."""
    batch, device = len(images), images.device
    floats = images.float() / 255
    if how.crop == "pad":
        dy, dx = torch.randint(0, 2 * how.pad_px + 1, (2, batch), generator=generator, device=device)
        floats = crop_pad(floats, dy, dx, how.pad_px, how.crop_padding)
    if how.flip:
        floats = flip(floats, torch.rand(batch, generator=generator, device=device) < 0.5)
    return floats
