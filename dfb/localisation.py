"""How well masks fit a truth: pixels, or boxes."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def agreement(
    found: Bool[Tensor, "images height width"], truth: Bool[Tensor, "images height width"]
) -> dict[str, float]:
    """Over all pixels: IoU, precision, recall; and the mean over images of each one's IoU. Foreground is what counts; shares in [0, 1]."""
    both, either = (found & truth).flatten(1).sum(1).double(), (found | truth).flatten(1).sum(1).double()
    return {
        "iou": float(both.sum() / either.sum().clamp_min(1)), "precision": float(both.sum() / found.sum().clamp_min(1)),
        "recall": float(both.sum() / truth.sum().clamp_min(1)), "mean_image_iou": float((both / either.clamp_min(1)).mean()),
        "foreground_share": float(found.double().mean()), "true_share": float(truth.double().mean()),
    }  # fmt: skip


def box_masks(boxes: list[list[int]], side_px: int, size: tuple[int, int]) -> Bool[Tensor, "images height width"]:
    """True inside each box (x0, y0, x1, y1, inclusive, in pixels of an image of `side_px`), at `size`."""
    x0, y0, x1, y1 = torch.tensor(boxes, dtype=torch.float64).T[:, :, None]
    rows, cols = ((torch.arange(n) + 0.5) * side_px / n for n in size)
    inside_rows, inside_cols = (y0 <= rows) & (rows < y1 + 1), (x0 <= cols) & (cols < x1 + 1)
    return inside_rows[:, :, None] & inside_cols[:, None, :]


def pointing(peak: Int[Tensor, " images"], truth: Bool[Tensor, "images height width"]) -> float:
    """The pointing game: the share of images whose attention is largest (at pixel `peak`, counted row by row) inside the truth."""
    return float(truth.flatten(1).gather(1, peak.long()[:, None]).double().mean())
