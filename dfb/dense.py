"""The dense predictor: the classifier's own body and head, with bilinear upsampling where the classifier pools (DFB Eq. 3-5).

The head runs at feature resolution and its K+1 logits are upsampled. That is exact: a linear head commutes with any upsampling whose
weights sum to 1. The conversion (Eq. 5) has no code of its own: the trained network's `forward` pools where this file upsamples,
and the mean of the upsampled logits is the pooled logit vector wherever 2 N / n is whole (n locations to N pixels, half-pixel centres).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.data.masks import IGNORE
from common.training.distributed import global_mean

# One working copy of upsampled logits: near the cache on a CPU, few launches on a GPU.
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


def upsampling_matrix(
    source: int, target: int, *, align_corners: bool = False, like: Tensor | None = None
) -> Float[Tensor, "target source"]:
    """U with U @ x = x resized bilinearly from `source` to `target` points; its rows sum to 1.

    Half-pixel centres: point t reads s = max((t + 1/2) source / target - 1/2, 0), weight 1 - frac(s) on floor(s), the rest on the next.
    With `align_corners` the ends meet: s = t (source - 1) / (target - 1). dtype and device of `like`; weights are made in float64.
    """
    points = torch.eye(source, dtype=torch.float64).unsqueeze(0)
    matrix = F.interpolate(points, size=target, mode="linear", align_corners=align_corners)[0].T.contiguous()
    return matrix if like is None else matrix.to(like.device, like.dtype)


def upsample(
    maps: Float[Tensor, "batch classes rows cols"], size: tuple[int, int], *, align_corners: bool = False
) -> Float[Tensor, "batch classes height width"]:
    """Bilinear upsampling as two matrix products, U_rows @ map @ U_cols^T (the `up` of Eq. 4)."""
    rows, cols = _both_ways(maps, size, align_corners)
    return rows @ maps @ cols.T


def _both_ways(maps: Tensor, size: tuple[int, int], align_corners: bool) -> list[Tensor]:
    pairs = zip(maps.shape[-2:], size, strict=True)
    return [upsampling_matrix(n, to, align_corners=align_corners, like=maps) for n, to in pairs]


def dense_logits(
    model: Classifier,
    images: Float[Tensor, "batch 3 height width"],
    size: tuple[int, int] | None = None,
    *,
    align_corners: bool = False,
) -> Float[Tensor, "batch classes rows cols"]:
    """Eq. 4 before the softmax: K+1 logits a pixel, at `size` (rows, cols) or at the images' own."""
    local = model.local_logits(model.feature_map(images))
    return upsample(local, size or tuple(images.shape[-2:]), align_corners=align_corners)


def dense_loss(
    logits: Float[Tensor, "batch classes rows cols"],
    targets: Int64[Tensor, "batch height width"],
    *,
    align_corners: bool = False,
    reduction: str = "pixels",
    chunk_bytes: int | None = None,
) -> Float[Tensor, ""]:
    """Pixel cross-entropy of the upsampled logits (Eq. 3), from logits at feature resolution.

    `targets`: 0..K-1 foreground of that class, K background, IGNORE does not count. `reduction`: "pixels" is the mean over all counted
    pixels of the batch, "images" the mean over each image's own first; both are 0 where nothing counts. Upsampled logits exist one chunk
    at a time: beyond its inputs the loss holds at most 2 `chunk_bytes` (or 2 rows of pixels of one image, if those are more), whatever K.
    Raises UserError for an unknown reduction, and on a CPU for a target that is no class (a GPU asserts).
    """
    if reduction not in ("pixels", "images"):
        raise UserError(f"reduction must be one of pixels, images, got {reduction!r}")
    _check_targets(targets, logits.shape[1])
    weight = pixel_weights(targets, reduction, logits.dtype)
    chunk = chunk_bytes or CHUNK_BYTES.get(logits.device.type, CHUNK_BYTES["cpu"])
    return _UpsampledCrossEntropy.apply(logits, targets, weight, align_corners, chunk)


def _check_targets(targets: Tensor, classes: int) -> None:
    if targets.device.type != "cpu" or targets.numel() == 0:
        return  # looking would make the step wait for the device
    counted = targets[targets != IGNORE]
    low, high = map(int, counted.aminmax()) if counted.numel() else (0, 0)
    if not 0 <= low <= high < classes:
        raise UserError(f"targets must be in 0..{classes - 1} or {IGNORE}, got {low}..{high}")


def pixel_weights(
    targets: Int64[Tensor, "batch height width"], reduction: str, dtype: torch.dtype
) -> Float[Tensor, "batch height width"]:
    """What each pixel counts: 0 if ignored, else 1 / counted pixels, of the batch or of the image times the images that have any."""
    counted = (targets != IGNORE).to(dtype)
    if reduction == "pixels":
        return global_mean(counted, counted.sum())
    of_image = counted.sum(dim=(1, 2), keepdim=True)
    return global_mean(counted / of_image.clamp_min(1), (of_image > 0).sum())


class _UpsampledCrossEntropy(torch.autograd.Function):
    """sum over pixels of weight (logsumexp z - z[target]), z the upsampled logits.

    The gradient U_rows^T (weight (softmax z - one-hot)) U_cols has the logits' small size, so the forward pass makes it while a chunk of z is
    at hand, and no upsampled tensor is kept for the backward pass: that halves the passes over memory, which is what this loss costs.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, weight: Tensor, align_corners: bool, chunk_bytes: int) -> Tensor:
        (batch, classes, *_), (height, width) = logits.shape, targets.shape[1:]
        rows_up, cols_up = _both_ways(logits, (height, width), align_corners)
        gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        loss = logits.new_zeros(())
        row_bytes = classes * width * logits.element_size()
        rows = max(1, min(height, chunk_bytes // row_bytes))
        images = max(1, chunk_bytes // (row_bytes * height))
        for first in range(0, batch, images):
            of = slice(first, first + images)
            for top in range(0, height, rows):
                at = slice(top, top + rows)
                pixels = (targets[of, at], weight[of, at])
                part, small = _chunk(logits[of], *pixels, rows_up[at], cols_up, gradient is not None)
                loss = loss + part
                if gradient is not None:
                    gradient[of] += small
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None, None


def _chunk(
    logits: Tensor, targets: Tensor, weight: Tensor, rows_up: Tensor, cols_up: Tensor, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss of some images' rows, and its gradient at feature resolution. `z` is the one large tensor; it is overwritten in place."""
    z = (rows_up @ logits) @ cols_up.T
    index = targets.clamp_min(0).unsqueeze(1)  # ignored pixels read class 0 with weight 0
    top = z.amax(dim=1, keepdim=True)
    own = z.gather(1, index)
    total = z.sub_(top).exp_().sum(dim=1, keepdim=True)
    loss = (weight.unsqueeze(1) * (total.log() + top - own)).sum()
    if not with_gradient:
        return loss, None
    weight = weight.unsqueeze(1)
    z.mul_(weight / total).scatter_add_(1, index, -weight)
    return loss, rows_up.T @ (z @ cols_up)
