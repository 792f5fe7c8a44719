"""Cross-entropy on pairs of mixed images."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.training.distributed import all_rows, over_batch, share
from common.training.objective import Batch, Clock, Objective, accuracy


class Mixup(Objective):
    """Cross-entropy on pairs of images mixed by one share a batch, Beta(alpha, alpha) (DFB section 4.1, BiT's rule)."""

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha

    def forward(self, model: Classifier, batch: Batch, clock: Clock) -> tuple[Tensor, dict[str, Tensor]]:
        images, partner, weight = mixup(
            all_rows(batch.flat), self.alpha, clock.generator
        )  # partners may be another process's images
        other = share(all_rows(batch.labels)[partner])
        logits, weight = model(share(images)), weight.to(images.dtype)
        loss = weight * F.cross_entropy(logits, batch.labels) + (1 - weight) * F.cross_entropy(logits, other)
        loss = over_batch(loss, len(logits))
        larger = torch.where(weight >= 0.5, batch.labels, other)
        return loss, {"ce": loss.detach(), "train_accuracy": accuracy(logits, larger)}


def mixup(
    images: Float[Tensor, "batch 3 height width"], alpha: float, generator: torch.Generator
) -> tuple[Float[Tensor, "batch 3 height width"], Int64[Tensor, " batch"], Tensor]:
    """Each image mixed with a partner: share * image + (1 - share) * partner, one share ~ Beta(alpha, alpha) a batch (DFB section 4.1).

    Returns the mixed images, the partners' rows, and the share as a 0-d tensor. The loss is mixed by the caller the same way.
    """
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    share = _beta(alpha, generator, images.device)
    weight = share.to(images.dtype)
    return weight * images + (1 - weight) * images[partner], partner, share


def _beta(alpha: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """One draw of Beta(alpha, alpha) by Johnk's way: (u, v) uniform, u^(1/a) + v^(1/a) <= 1. Sixty-four tries; 0.5 if none fits."""
    log_u, log_v = (
        torch.rand(2, 64, generator=generator, device=device, dtype=torch.float64).clamp_min(1e-300).log() / alpha
    ).unbind(0)
    log_sum = torch.logaddexp(log_u, log_v)
    fits = log_sum <= 0
    first = fits.int().argmax()
    return torch.where(fits.any(), (log_u[first] - log_sum[first]).exp(), 0.5)
