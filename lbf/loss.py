"""Which locations of a feature map look like background, and the penalty on their norms (LBF Eq. 4-6)."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from common.cli.errors import UserError
from common.training.distributed import global_mean


@torch.no_grad()
def background_mask(
    local_logits: Float[Tensor, "batch classes rows cols"], labels: Int64[Tensor, " batch"], delta: float
) -> Bool[Tensor, "batch rows cols"]:
    """True where the probability of the image's own class is below delta (Eq. 4, 5). Ties are not selected: Eq. 5 has <.

    A comparison, so no gradient passes through it. Raises UserError for a negative delta; a delta above 1 selects everything.
    """
    if not delta >= 0:
        raise UserError(f"delta must be >= 0, got {delta}")
    probability = _wide(local_logits).softmax(dim=1)  # Eq. 4: the image head on every location
    own = probability.gather(1, labels.view(-1, 1, 1, 1).expand(-1, 1, *probability.shape[2:]))
    return own.squeeze(1) < delta


def background_norm_loss(
    feature_map: Float[Tensor, "batch channels rows cols"],
    mask: Bool[Tensor, "batch rows cols"],
    mu: float,
    reduction: str = "batch",
    norm: str = "l2",
) -> Float[Tensor, ""]:
    """Mean over the selected locations of max(norm - mu, 0), the norm taken over channels (Eq. 6).

    `batch`: over all selected locations of the batch. `image`: over each image's own, then over the images that have any. Zero, with
    zero gradient, where nothing is selected; a selected vector of norm 0 has gradient 0.
    """
    excess = (local_norms(feature_map, norm) - mu).clamp_min(0) * mask
    if reduction == "batch":
        return global_mean(excess.sum(), mask.sum())
    if reduction != "image":
        raise UserError(f"reduction must be one of batch, image, got {reduction!r}")
    counts = mask.sum(dim=(1, 2))
    return global_mean((excess.sum(dim=(1, 2)) / counts.clamp_min(1)).sum(), (counts > 0).sum())


def local_norms(
    feature_map: Float[Tensor, "batch channels rows cols"], norm: str = "l2"
) -> Float[Tensor, "batch rows cols"]:
    """L2 norm over channels. torch's norm has derivative 0 at 0, which exact zeros after a ReLU need.

    `l1` (an ablation): sum of absolute values over the root of the number of channels: at most the L2 norm, so that mu keeps its meaning.
    """
    if norm == "l1":
        return _wide(feature_map).abs().sum(dim=1) / feature_map.shape[1] ** 0.5
    return torch.linalg.vector_norm(_wide(feature_map), dim=1)


def _wide(tensor: Tensor) -> Tensor:
    """Half precision to float32: it overflows at norm 256."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
