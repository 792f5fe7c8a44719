"""Photographs with one box each, as a coarse truth of where the object is: all within a box counts as object."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.images import Images, balanced_subset
from common.data.transforms import Transform

NAME = "tiny-imagenet-boxes"
SIDE_PX = 64  # of the images that the boxes are given in


def load_boxed(root: Path, transform: Transform, classes: Sequence[str] | None, limit: int | None = None) -> Images:
    """The set of boxes under a network's transform, each box as the image's mask; `limit`: a class-balanced part of it.

    Raises UserError where the set is not there, has classes that the network does not know, or the transform cuts parts of an image away.
    """
    if transform.rule == "resize-crop" and transform.short_px != transform.size_px:
        raise UserError(f"{NAME}: the network's transform crops (resize_px {transform.short_px}, size_px {transform.size_px}), and boxes are of whole images")  # fmt: skip
    images = load(NAME, "boxes", root=root, transform=transform, classes=classes)
    images = replace(images, masks=box_masks(images.facts["boxes"], SIDE_PX, tuple(images.size_px)))
    if limit is None or limit >= len(images):
        return images
    return images.subset(balanced_subset(images.labels, limit, torch.Generator().manual_seed(0)))


def box_masks(boxes: list[list[int]], side_px: int, size: tuple[int, int]) -> Bool[Tensor, "images height width"]:
    """True inside each box (x0, y0, x1, y1, inclusive, in pixels of an image of `side_px`), at `size`."""
    x0, y0, x1, y1 = torch.tensor(boxes, dtype=torch.float64).T[:, :, None]
    rows, cols = ((torch.arange(n) + 0.5) * side_px / n for n in size)
    inside_rows, inside_cols = (y0 <= rows) & (rows < y1 + 1), (x0 <= cols) & (cols < x1 + 1)
    return inside_rows[:, :, None] & inside_cols[:, None, :]
