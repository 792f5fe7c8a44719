"""Class activation maps: where in an image a classifier sees a class (Zhou et al. 2016; DFB Eq. 1), over several scales and a mirror image.

Upsampling is bilinear with half-pixel centres. docs/dfb.md says which switch is the paper's and which is its released code's.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.cli.recipes import check, choice, number, numbers, switch


@dataclass(frozen=True)
class CamRecipe:
    """How a map is made. The defaults are our reading of DFB, whose text says only "multi-scale"."""

    cam_class: str = choice(
        "label",
        ("label", "predicted"),
        why="whose map: the labelled class (DFB Eq. 1), or the one predicted at scale 1 (its code)",
    )
    cam_bias: bool = switch(False, why="add the head's bias; Eq. 1 has none, DFB's code does")
    cam_relu: bool = switch(
        True, why="negative values to 0 in each view, before summing; DFB's code and the IRN line of work"
    )
    cam_norm: str = choice(
        "max", ("max", "minmax"), why="to [0, 1]: divide by the maximum, or subtract the minimum first"
    )
    cam_order: str = choice(
        "upsample-first",
        ("upsample-first", "normalise-first"),
        why="upsample and sum the views, then normalise, or each view first",
    )
    cam_scales: tuple[float, ...] = numbers(
        (0.5, 1.0, 1.5, 2.0), low=0.1, high=8, why="sizes of the views, as multiples of the image's; DFB's code"
    )
    cam_flip: bool = switch(True, why="add each view's mirror image; DFB's code")
    cam_shift: str = choice(
        "none",
        ("none", "half-stride"),
        why="move each view's map up and left by (stride - 1) / 2 pixels, to where padded 3x3 convolutions look; none as in DFB's code",
    )
    cam_blur: float = number(
        0.0,
        low=0,
        why="sigma in pixels of a Gaussian at the mask's size, then min-max; DFB's code: 4 at 128 px. 0 = none",
    )
    cam_eps: float = number(1e-5, low=0, high=1, why="added to what a map is divided by; DFB's code")

    def __post_init__(self):
        check(self)
        if self.cam_shift != "none" and self.cam_order != "upsample-first":
            raise UserError(f"cam_shift {self.cam_shift} needs cam_order upsample-first, got {self.cam_order}")


def class_map(
    feature_map: Float[Tensor, "batch channels rows cols"],
    weight: Float[Tensor, "batch channels"],
    bias: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch rows cols"]:
    """M^(i,j) = W_y^T f(x)^(i,j), each image with its own class's row of the head (DFB Eq. 1)."""
    found = torch.einsum("bcij,bc->bij", feature_map, weight)
    return found if bias is None else found + bias[:, None, None]


def normalise_map(maps: Float[Tensor, "batch rows cols"], how: str, eps: float) -> Float[Tensor, "batch rows cols"]:
    """Each map in [0, 1]: "max" divides by (maximum + eps), negative values to 0; "minmax" subtracts the minimum first. No peak: all 0."""
    if how == "minmax":
        maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    top = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(
        top > 0, maps.clamp_min(0) / (top + eps).clamp_min(torch.finfo(maps.dtype).tiny), torch.zeros_like(maps)
    )


def resize_maps(
    maps: Float[Tensor, "batch rows cols"], size: tuple[int, int], shift_px: tuple[float, float] = (0.0, 0.0)
) -> Float[Tensor, "batch height width"]:
    """Bilinear, then moved up and left by `shift_px` (rows, columns) pixels of the result; the border's values continue outside."""
    if shift_px == (0.0, 0.0):
        return F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=False).squeeze(1)
    y, x = (
        2 * (torch.arange(n, dtype=maps.dtype, device=maps.device) + 0.5 + move) / n - 1
        for n, move in zip(size, shift_px)
    )
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2).expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps.unsqueeze(1), grid, mode="bilinear", padding_mode="border", align_corners=False).squeeze(
        1
    )


def blur(maps: Float[Tensor, "batch rows cols"], sigma_px: float) -> Float[Tensor, "batch rows cols"]:
    """A Gaussian cut at 4 sigma, by OpenCV (4 to 17 times as fast on a CPU as convolutions of torch); the border is repeated outwards."""
    import cv2  # needed here only

    side = 2 * max(1, round(4 * sigma_px)) + 1
    blurred = [cv2.GaussianBlur(m, (side, side), sigma_px, borderType=cv2.BORDER_REPLICATE) for m in maps.cpu().numpy()]
    return torch.from_numpy(np.stack(blurred)).to(maps.device)


def _view_maps(
    model: Classifier,
    images: Float[Tensor, "batch 3 height width"],
    own: Float[Tensor, "batch channels rows cols"],
    scale: float,
    flip: bool,
) -> Float[Tensor, "views channels viewrows viewcols"]:
    """Feature maps of the images at a scale and, behind them, of their mirror images: one pass of the network. `own`: the maps at scale 1."""
    if scale == 1:
        return torch.cat([own, model.feature_map(images.flip(3))]) if flip else own
    size = tuple(max(1, round(scale * n)) for n in images.shape[-2:])
    # DFB's code: bicubic without antialiasing; it may overshoot [0, 1], which the network never saw
    view = F.interpolate(images, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    return model.feature_map(torch.cat([view, view.flip(3)]) if flip else view)


def half_stride(
    size: tuple[int, int], map_size: tuple[int, int], view_size: tuple[float, float]
) -> tuple[float, float]:
    """(s - 1) / 2 pixels of a view under stride s, in pixels of `size`: how far half-pixel upsampling puts a location from what it looks at.

    A convolution of odd width with padding centres its output i on input s i, not on the middle of the s pixels from there on.
    """
    return tuple(n * (1 / m - 1 / v) / 2 for n, m, v in zip(size, map_size, view_size))


@torch.no_grad()
def class_attention(
    model: Classifier,
    images: Float[Tensor, "batch 3 height width"],
    labels: Int64[Tensor, " batch"],
    recipe: CamRecipe = CamRecipe(),
    size: tuple[int, int] | None = None,
) -> tuple[Float[Tensor, "batch rows cols"], Int64[Tensor, " batch"]]:
    """(attention in [0, 1] at `size`, or at the images' own; the class predicted at scale 1). `labels` are not read with cam_class predicted."""
    size, count = size or tuple(images.shape[-2:]), len(images)
    own = model.feature_map(images)
    predicted = model.head(model.pool(own)).argmax(dim=1)
    chosen = labels if recipe.cam_class == "label" else predicted
    weight, bias = model.head.weight[chosen], model.head.bias[chosen] if recipe.cam_bias else None
    total, moved = images.new_zeros((count, *size)), recipe.cam_shift == "half-stride"
    for scale in recipe.cam_scales:
        features = _view_maps(model, images, own, scale, recipe.cam_flip)
        twice = len(features) // count
        maps = class_map(features, weight.repeat(twice, 1), None if bias is None else bias.repeat(twice))
        maps = maps.relu() if recipe.cam_relu else maps
        if moved:  # a mirror image is moved before it is mirrored back
            maps = resize_maps(
                maps, size, half_stride(size, tuple(maps.shape[-2:]), tuple(scale * n for n in images.shape[-2:]))
            )
        if recipe.cam_flip:
            maps = maps[:count] + maps[count:].flip(2)
        if recipe.cam_order == "normalise-first":
            maps = normalise_map(maps, recipe.cam_norm, recipe.cam_eps)
        total = total + (maps if moved else resize_maps(maps, size))
    if recipe.cam_order == "normalise-first":
        attention = total / len(recipe.cam_scales)
    else:
        attention = normalise_map(total, recipe.cam_norm, recipe.cam_eps)
    if recipe.cam_blur > 0:
        attention = normalise_map(blur(attention, recipe.cam_blur), "minmax", 0.0)
    return attention, predicted
