"""Images and masks in a figure: axes without ticks, outlines where there is something to outline."""

from typing import Any

from common.results.style import plt


def blank(axis: plt.Axes) -> None:
    """No ticks, no grid."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def show(axis: plt.Axes, pixels: Any) -> None:
    """An image, `3 height width`, in [0, 1] or of 8 bits."""
    axis.imshow(pixels.cpu().permute(1, 2, 0).numpy())
    blank(axis)


def outline(axis: plt.Axes, mask: Any, colour: str, width: float) -> None:
    """The border of a Boolean mask, `height width`; nothing where all or none of it is true."""
    if mask.any() and not mask.all():
        axis.contour(mask.cpu().float().numpy(), levels=[0.5], colors=[colour], linewidths=width)
