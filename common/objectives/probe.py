"""A head for a network that was trained without one: logistic regression on the features of its training images."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.training.distributed import all_rows, share

BATCH = 500  # images a pass
STEPS = 500  # of L-BFGS, at most
FLOOR = 0.01  # of the units' standard deviations, as a share of their root mean square


@torch.no_grad()
def training_features(
    model: Classifier, images: Any, then: Callable[[Tensor], Tensor] = lambda h: h
) -> tuple[Float[Tensor, "images width"], Int64[Tensor, " images"]]:
    """`then` of the penultimate features of all training images as they are scored, in eval mode, and their labels; over several processes each
    passes its part and all get all. The network's mode is left as it was."""
    device, was_training = model.head.weight.device, model.training
    model.eval()
    rows = [
        all_rows(then(model.pool(model.feature_map(share(pixels).to(device).float() / 255))))
        for pixels in images.batches(BATCH)
    ]
    model.train(was_training)
    return torch.cat(rows), images.labels.to(device)


def fit_head(
    features: Float[Tensor, "images width"], labels: Int64[Tensor, " images"], classes: int, decay: float
) -> tuple[Float[Tensor, "classes width"], Float[Tensor, " classes"]]:
    """Weight and bias that minimise the mean cross-entropy plus decay / 2 times the squared norm of the weight, on features standardised by
    unit; returned for features as they are. In float64. Raises UserError where features are not finite."""
    h = features.double()
    if not h.isfinite().all():
        raise UserError("the trained network's features are not finite, so no head can be fitted; try a lower lr")
    mean, std = h.mean(0), h.std(0, correction=0)
    # Units that hardly vary in training would get weights that blow up whatever they do later; dead ones keep weight 0.
    std = std.clamp_min(FLOOR * std.square().mean().sqrt()).clamp_min(torch.finfo(std.dtype).tiny)
    h = (h - mean) / std
    weight, bias = (h.new_zeros(shape, requires_grad=True) for shape in ((classes, h.shape[1]), (classes,)))
    how = {"max_iter": STEPS, "tolerance_grad": 1e-7, "tolerance_change": 1e-12, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([weight, bias], **how)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(h @ weight.T + bias, labels) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    weight, bias = weight.detach() / std, bias.detach()
    return weight, bias - weight @ mean


@torch.no_grad()
def put_head(model: Classifier, images: Any, decay: float) -> None:
    """Fit the head to the training images and put it into the network: what makes its ID accuracy that of a linear probe."""
    weight, bias = fit_head(*training_features(model, images), model.classes, decay)
    model.head.weight.copy_(weight)
    model.head.bias.copy_(bias)
