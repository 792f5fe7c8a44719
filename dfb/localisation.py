"""How much masks cover, and how well they fit a truth: pixels, or boxes as pixels."""

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from common.data.masks import StoredMasks


def count_masks(masks: StoredMasks, predicted: np.ndarray, labels: Tensor) -> dict[str, float]:
    """What the manifest says of the masks: shares in [0, 1]."""
    pixels = masks.size[0] * masks.size[1]
    # bits set in each byte
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)
    foreground = ones[masks.bits.numpy()].sum(1, dtype=np.int64)
    return {
        "foreground_share": float(foreground.mean() / pixels), "empty_share": float((foreground == 0).mean()),
        "full_share": float((foreground == pixels).mean()), "predicted_differs_share": float((predicted != labels.cpu().numpy()).mean()),
    }  # fmt: skip


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


def pointing(peak: Int[Tensor, " images"], truth: Bool[Tensor, "images height width"]) -> float:
    """The pointing game: the share of images whose attention is largest (at pixel `peak`, counted row by row) inside the truth."""
    return float(truth.flatten(1).gather(1, peak.long()[:, None]).double().mean())
