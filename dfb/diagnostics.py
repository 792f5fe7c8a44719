"""Numbers to read beside a table of joint scores: they say which part of a gain is whose (docs/dfb.md, "What is printed with every table")."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from common.backbones.classifier import Classifier
from common.metrics import auroc
from common.scorers.arrays import Features
from dfb.dense import dense_logits
from dfb.score import background_score, guard_fires


def accuracies(features: Features) -> dict[str, float]:
    """Share of right answers among the first K logits, and among all K+1, where an image called background is wrong."""
    return {
        "id_accuracy_first_k": float((features.logits[:, :-1].argmax(1) == features.labels).mean()),
        "id_accuracy_all": float((features.logits.argmax(1) == features.labels).mean()),
    }


def of_set(features: Features) -> dict[str, float]:
    """Shares of a set's images whose largest logit is the background's, and whose S_b is too small for a logarithm; mean and deviation of S_b."""
    background = background_score(features)
    return {
        "background_largest": float((features.logits.argmax(1) == features.logits.shape[1] - 1).mean()),
        "guard_fires": float(guard_fires(background).mean()), "mean_S_b": float(background.mean()), "deviation_S_b": float(background.std()),
    }  # fmt: skip


def sharpness(images: Any) -> Float[np.ndarray, " images"]:
    """Variance of the Laplacian of each image's grey values in [0, 1] at the network's input size: a rival that knows no network."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)

    def of_batch(pixels: UInt8[Tensor, "batch 3 height width"]) -> Tensor:
        grey = pixels.cpu().float().mean(1, keepdim=True) / 255
        return F.conv2d(grey, kernel).double().var(dim=(1, 2, 3))

    return torch.cat([of_batch(pixels) for pixels in images.batches(250)]).numpy()


@torch.no_grad()
def conversion_gap(model: Classifier, pixels: UInt8[Tensor, "batch 3 height width"]) -> dict[str, float]:
    """Largest difference between the mean dense logits and the converted classifier's, by how the dense logits are upsampled."""
    images = pixels.float() / 255
    pooled = model(images)
    gap = lambda corners: float((dense_logits(model, images, align_corners=corners).mean((2, 3)) - pooled).abs().max())  # noqa: E731
    return {"half_pixel": gap(False), "align_corners": gap(True)}


@torch.no_grad()
def background_on_background(model: Classifier, images: Any, count: int = 500) -> float | None:
    """Share of images in which the dense background logit is larger on true background than on true foreground, in the mean. None without a truth."""
    if getattr(images, "masks", None) is None:
        return None
    device, larger, seen = next(model.parameters()).device, 0, 0
    for start in range(0, min(count, len(images)), 100):
        rows = slice(start, min(start + 100, count))
        logit = dense_logits(model, images.pixels[rows].to(device).float() / 255)[:, -1]
        mask = images.masks[rows].to(device).float()
        on, off = (
            (logit * mask).sum((1, 2)) / mask.sum((1, 2)),
            (logit * (1 - mask)).sum((1, 2)) / (1 - mask).sum((1, 2)),
        )
        larger, seen = larger + int((off > on).sum()), seen + len(mask)
    return larger / seen


def correlations(foreground: dict[str, np.ndarray], background: np.ndarray) -> dict[str, float]:
    """Pearson correlation of S_b with each detector's S_h over ID test images."""
    return {name: float(np.corrcoef(values, background)[0, 1]) for name, values in foreground.items()}


def sharpness_rival(id_images: Any, sets: dict[str, Any]) -> dict[str, float]:
    """AUROC of sharpness as an OOD score, a set; 0.5 says nothing, and a value below it says that OOD images are blurrier."""
    own = sharpness(id_images)
    return {name: auroc(-own, -sharpness(images)) for name, images in sets.items()}
