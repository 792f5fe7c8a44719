"""Numbers to read beside a table of joint scores: they say which part of a gain is whose (docs/dfb.md, "What is printed with every table")."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from common.backbones.classifier import Classifier
from common.metrics import auroc
from common.results.tables import markdown
from common.scorers.arrays import Features
from common.scoring.sets import Scored, accuracy
from dfb.dense import dense_logits
from dfb.score import background_score, guard_fires

GUARD_WARNING = 0.01  # share of ID images from which a clamped logarithm is no longer a detail


def of_network(model: Classifier, scored: Scored, id_set: str, foreground: dict[str, np.ndarray]) -> dict[str, Any]:
    """Everything below of a (K+1)-class network, as plain values. `foreground`: each detector's S_h of the ID test images."""
    background, id_images = background_score(scored.id), scored.images[id_set]
    by_set = {id_set: of_set(scored.id)}
    for name, features in scored.ood.items():
        by_set[name] = of_set(features) | {"auroc_S_b": auroc(background, background_score(features))}
    pixels = next(iter(id_images.batches(16))).to(next(model.parameters()).device)
    return {
        "id_accuracy_first_k": accuracy(scored.id, model.classes - 1), "id_accuracy_all": accuracy(scored.id, model.classes),
        "sets": by_set, "conversion_gap": conversion_gap(model, pixels), "correlation_S_b_S_h": correlations(foreground, background),
        "sharpness_auroc": sharpness_rival(id_images, {name: scored.images[name] for name in scored.ood}),
        "background_logit_larger_on_background": background_on_background(model, id_images),
    }  # fmt: skip


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
        on, off = ((logit * part).sum((1, 2)) / part.sum((1, 2)) for part in (mask, 1 - mask))
        larger, seen = larger + int((off > on).sum()), seen + len(mask)
    return larger / seen


def correlations(foreground: dict[str, np.ndarray], background: np.ndarray) -> dict[str, float]:
    """Pearson correlation of S_b with each detector's S_h over ID test images."""
    return {name: float(np.corrcoef(values, background)[0, 1]) for name, values in foreground.items()}


def sharpness_rival(id_images: Any, sets: dict[str, Any]) -> dict[str, float]:
    """AUROC of sharpness as an OOD score, a set; 0.5 says nothing, and a value below it says that OOD images are blurrier."""
    own = sharpness(id_images)
    return {name: auroc(-own, -sharpness(images)) for name, images in sets.items()}


def in_words(found: dict[str, Any], id_set: str) -> str:
    """What a reader needs beside the table."""
    percent = lambda value: f"{100 * value:.2f}"  # noqa: E731
    shown = {
        "background_largest": "S_b is the largest logit", "guard_fires": "S_b <= 1e-6 (log clamped)", "auroc_S_b": "AUROC of S_b alone"
    }  # fmt: skip
    sets, gap = found["sets"], found["conversion_gap"]
    body = [[name, *(percent(of[key]) if key in of else "-" for key in shown)] for name, of in sets.items()]
    first_k, all_ = percent(found["id_accuracy_first_k"]), percent(found["id_accuracy_all"])
    gaps = f"{gap['half_pixel']:.1e} half-pixel, {gap['align_corners']:.1e} align_corners"
    parts = [
        "The background logit S_b of each set; percent", markdown(["set", *shown.values()], body),
        f"ID accuracy over the first K logits {first_k} %, over all K+1 {all_} %\nmean dense logits against the converted classifier: {gaps}",
    ]  # fmt: skip
    if sets[id_set]["guard_fires"] > GUARD_WARNING:
        fires = "the logarithm's guard fires on more than 1 % of ID images"
        parts.append(f"warning: {fires}; read the softplus rows beside the clamped ones")
    return "\n\n".join(parts)
