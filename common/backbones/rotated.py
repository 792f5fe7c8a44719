"""A body that sees its images four times, turned by 0, 90, 180 and 270 degrees (CSI)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

TURNS = 4


class Rotated(nn.Module):
    """The maps of the turned images, turned back and laid on top of each other: four times the channels of the body within.

    With the mean of four linear heads as its head it is one network, of four passes an image.
    """

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows cols"]:
        return torch.cat([turned(self.body(turned(images, r)), -r) for r in range(TURNS)], dim=1)


def turned(images: Float[Tensor, "batch channels rows cols"], turns: int) -> Tensor:
    """By `turns` right angles, against the clock."""
    return torch.rot90(images, turns, (2, 3))
