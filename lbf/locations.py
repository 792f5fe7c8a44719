"""Which locations are penalised: those of Eq. 5, or what an ablation puts in their place."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from common.backbones.classifier import Classifier
from common.cam import class_map, normalise_map
from common.scoring.features import batches
from common.training.distributed import all_rows, share
from lbf.loss import background_mask, local_norms

LOCATIONS = (
    "background", "all", "random", "low-norm", "foreground", "cam", "masks", "truth", "eq5-truth", "eq5-object",
)  # fmt: skip
WITH_TRUTH = ("truth", "eq5-truth", "eq5-object")  # read the set's own masks


@torch.no_grad()
def select_locations(
    which: str,
    model: Classifier,
    feature_map: Float[Tensor, "batch channels rows cols"],
    labels: Int64[Tensor, " batch"],
    delta: float,
    is_foreground: Bool[Tensor, "batch height width"] | None,
    generator: torch.Generator,
) -> Bool[Tensor, "batch rows cols"]:
    """True = penalised. `feature_map` and the head that reads it are `model`'s; `is_foreground` is read for "masks" and the truth's kinds alone.

    background: p < delta (Eq. 5). random: as many of each image, drawn uniformly. low-norm: as many, those of lowest norm (an idea of
    this suite, not of the paper). foreground: all others. cam: where the class map of the image's class (DFB Eq. 1) is below half its
    maximum. masks, truth: cells of which less than half is foreground. eq5-truth, eq5-object: Eq. 5's that are, or are not, true background.
    """
    if which == "all":
        return torch.ones_like(feature_map[:, 0], dtype=torch.bool)
    if which in ("masks", "truth"):
        return true_background(is_foreground, *feature_map.shape[2:])
    if which == "cam":
        return normalise_map(class_map(feature_map, model.head.weight[labels]).relu(), "max", 0.0) < 0.5
    mask = background_mask(model.local_logits(feature_map), labels, delta)
    if which in WITH_TRUTH:
        background = true_background(is_foreground, *mask.shape[1:])
        return mask & (background if which == "eq5-truth" else ~background)
    if which == "foreground":
        return ~mask
    if which == "low-norm":
        return lowest_like(mask, local_norms(feature_map))
    return share(random_like(all_rows(mask.byte()).bool(), generator)) if which == "random" else mask


def local_maps(
    model: Classifier, images, *, batch_size: int = 250, count: int | None = None, progress: bool = False
) -> Iterator[tuple[slice, Float[Tensor, "batch channels rows cols"], Int64[Tensor, " batch"]]]:
    """(The first `count`) images under the test transform, a batch at a time: which rows, their feature map, and their labels."""
    device, rows = next(model.parameters()).device, torch.arange(min(count or len(images), len(images)))
    for start, pixels in batches(images, batch_size, device, progress, rows):
        of = slice(start, start + len(pixels))
        with torch.no_grad():
            feature_map = model.feature_map(pixels)
        yield of, feature_map, images.labels[of].to(device)


def background_locations(
    model: Classifier, images, delta: float, **how
) -> Iterator[tuple[slice, Float[Tensor, "batch channels rows cols"], Bool[Tensor, "batch rows cols"]]]:
    """Eq. 5 on what `local_maps` gives: which rows, their map, and where it selects."""
    for of, feature_map, labels in local_maps(model, images, **how):
        with torch.no_grad():
            mask = background_mask(model.local_logits(feature_map), labels, delta)
        yield of, feature_map, mask


def true_background(
    masks: Bool[Tensor, "images height width"], rows: int, cols: int
) -> Bool[Tensor, "images rows cols"]:
    """True where less than half of the location's cell of pixels is object. `masks`: True = object."""
    share = F.adaptive_avg_pool2d(masks.float().unsqueeze(1), (rows, cols)).squeeze(1)
    return share < 0.5


def random_like(mask: Bool[Tensor, "batch rows cols"], generator: torch.Generator) -> Bool[Tensor, "batch rows cols"]:
    """As many locations of each image as `mask` has, drawn uniformly."""
    return lowest_like(mask, torch.rand(mask.shape, generator=generator, device=mask.device))


def lowest_like(
    mask: Bool[Tensor, "batch rows cols"], values: Float[Tensor, "batch rows cols"]
) -> Bool[Tensor, "batch rows cols"]:
    """As many locations of each image as `mask` has, those of the lowest values; of equal ones the first, row by row."""
    rank = values.flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
    return (rank < mask.flatten(1).sum(dim=1, keepdim=True)).view_as(mask)
