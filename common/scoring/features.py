"""What a network says of images, as plain arrays: the only thing scores ever see. One pass a set gives all that any score needs."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from common.backbones.classifier import Classifier
from common.cli.errors import UserError
from common.scorers.arrays import BASIC, Features
from common.scoring.foreign import Foreign
from common.training import distributed
from common.training.seeds import generator

Network = Classifier | Foreign
_ODIN = re.compile(r"odin:T=([0-9.e+-]+),eps=([0-9.e+-]+)$")


def extract(
    model: Network,
    images: Any,
    needs: Iterable[str],
    *,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Features:
    """Features of a set, in eval mode: one forward pass for everything; ODIN with a step adds a gradient pass, jigsaw norms a forward pass.

    `needs`: names of extras beyond "penultimate", "logits" and "labels", which are always there. Over several processes each passes a range of
    the images, and rank 0 alone gets all of them (the others their own range, without labels). Raises UserError for an unknown need.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in dict.fromkeys((*BASIC, *needs)) if name != "labels"}
    for _, batch in passes(model, images, needs, batch_size=batch_size, device=device, progress=progress):
        for name, values in batch.items():
            parts[name].append(values)
    arrays = distributed.gather({name: np.concatenate(rows) for name, rows in parts.items()})
    labels = None if images.labels is None or not distributed.is_main() else images.labels.cpu().numpy()
    return Features(arrays.pop("penultimate"), arrays.pop("logits"), labels, arrays)


def passes(
    model: Network,
    images: Any,
    needs: Iterable[str],
    *,
    batch_size: int,
    device: torch.device | str,
    progress: bool,
    done: int = 0,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The arrays of `extract`, a batch at a time, each with the row of its first image: this process's range of rows without its first `done`."""
    makers = check_needs(model, needs)
    model = model.to(device).eval()
    mine = distributed.share(torch.arange(len(images)))[done:]
    if len(mine) == 0:
        return
    for start, batch in batches(images, batch_size, device, progress and distributed.is_main(), mine):
        yield start, {name: values.cpu().numpy() for name, values in one_batch(model, batch, start, makers).items()}


def batches(
    images: Any,
    batch_size: int = 250,
    device: torch.device | str = "cpu",
    progress: bool = True,
    rows: Int[Tensor, " rows"] | None = None,
) -> Iterator[tuple[int, Float[Tensor, "batch 3 height width"]]]:
    """Images in [0, 1] on the device, a batch at a time, each with the row of its first image. `rows`: consecutive ones [all]."""
    first, count = (0, len(images)) if rows is None else (int(rows[0]), len(rows))
    whole = count == len(images)
    how = {"disable": not progress, "file": sys.stderr, "mininterval": 1.0, "leave": False}
    with tqdm(total=count, desc=images.name, unit="image", **how) as bar:
        for pixels in images.batches(batch_size) if whole else images.whole_batches(rows, batch_size):
            pixels = pixels.to(device, non_blocking=True)
            yield first, pixels if pixels.is_floating_point() else pixels.float() / 255
            first += len(pixels)
            bar.update(len(pixels))


@dataclass(frozen=True)
class Pass:
    """One batch's forward pass: what the extras are made from. `start` is the row of its first image in the set."""

    model: Network
    images: Float[Tensor, "batch 3 height width"]
    penultimate: Float[Tensor, "batch channels"]
    logits: Float[Tensor, "batch classes"]  # with their graph back to `images` where some extra asks for a gradient
    blocks: list[Tensor]  # every residual block's output
    start: int


def check_needs(model: Network, needs: Iterable[str]) -> dict[str, Callable[[Pass], Tensor]]:
    """What makes each extra. Raises UserError for one that is unknown, or that this network cannot give."""
    makers = {need: _maker(need) for need in dict.fromkeys(needs) if need not in (*BASIC, "labels")}
    if any(need in MAKERS for need in makers) and not model.blocks():
        which = "this suite's networks, and those of timm and torchvision that docs/scores.md names, have them"
        raise UserError(f"featurenorm and masf look into residual blocks, and none are known of {model.name} ({which})")
    return makers


def one_batch(
    model: Network, images: Tensor, start: int, makers: dict[str, Callable[[Pass], Tensor]]
) -> dict[str, Tensor]:
    """All arrays of one batch, whose first image is row `start` of its set; `makers` as `check_needs` gives them."""
    graph = any((match := _ODIN.match(name)) and float(match[2]) for name in makers)
    with torch.set_grad_enabled(graph):
        pooled, blocks = _forward(model, images.requires_grad_(graph), any(name in MAKERS for name in makers))
        logits = model.head(pooled)
    seen = Pass(model, images, pooled.detach(), logits, [block.detach() for block in blocks], start)
    return {"penultimate": seen.penultimate, "logits": logits.detach()} | {
        name: make(seen) for name, make in makers.items()
    }


def _forward(model: Network, images: Tensor, wanted: bool) -> tuple[Tensor, list[Tensor]]:
    """Pooled features, and every residual block's output where it is wanted."""
    outputs: list[Tensor] = []
    looked_at = model.blocks() if wanted else []
    hooks = [block.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for block in looked_at]
    try:
        pooled = model.penultimate(images)
    finally:
        for hook in hooks:
            hook.remove()
    if any(not isinstance(out, Tensor) or out.ndim != 4 for out in outputs) or len(outputs) != len(looked_at):
        raise UserError(
            f"featurenorm and masf need maps, batch x channels x rows x cols, of the blocks of {model.name}"
        )
    return pooled, outputs


def _maker(need: str) -> Callable[[Pass], Tensor]:
    """How an extra is made from a batch's pass. common/scorers/maps.py defines the extras that look inside the network."""
    if need in MAKERS:
        return MAKERS[need]
    if match := _ODIN.match(need):
        temperature, eps = float(match[1]), float(match[2])
        return lambda seen: odin(seen.model, seen.images, temperature, eps, seen.logits)
    if need == "second_norm":
        raise UserError("dml+ is a score of two networks: evaluate the first with --second CHECKPOINT")
    raise UserError(f"unknown need {need!r}; known: {', '.join((*BASIC, 'labels', *MAKERS))}, odin:T=...,eps=...")


def block_norms(blocks: list[Tensor]) -> Float[Tensor, "batch blocks"]:
    """FeatureNorm of every block: mean over channels of the L2 norm over locations, after a ReLU."""
    return torch.stack([torch.linalg.vector_norm(F.relu(out.float()), dim=(2, 3)).mean(1) for out in blocks], dim=1)


def jigsaw(
    images: Float[Tensor, "batch 3 height width"], orders: Int[Tensor, "batch 9"], fill: Tensor
) -> Float[Tensor, "batch 3 height width"]:
    """Each image's 3 x 3 tiles in its own order; what the tiles do not cover is `fill` (broadcastable, the mean colour)."""
    rows, cols = images.shape[2] // 3, images.shape[3] // 3
    covered = images[:, :, : 3 * rows, : 3 * cols].unflatten(2, (3, rows)).unflatten(4, (3, cols))
    tiles = covered.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    tiles = tiles[torch.arange(len(images), device=images.device)[:, None], orders.to(images.device)]
    out = fill.expand_as(images).clone()
    out[:, :, : 3 * rows, : 3 * cols] = tiles.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return out


@torch.no_grad()
def _jigsaw_block_norms(seen: Pass) -> Float[Tensor, "batch blocks"]:
    """Of jigsawed images, tiles shuffled by a seed fixed per row: neither batch size nor earlier draws change an image's order."""
    orders = [torch.randperm(9, generator=generator(0, "jigsaw", seen.start + row)) for row in range(len(seen.images))]
    shuffled = jigsaw(seen.images, torch.stack(orders), seen.model.normalise.mean)
    return block_norms(_forward(seen.model, shuffled, True)[1])


@torch.no_grad()
def _channel_maxima(seen: Pass) -> Float[Tensor, "batch columns"]:
    """Each block's channel maxima over locations and the penultimate vector, after the number of layers and their widths."""
    layers = [out.float().amax((2, 3)) for out in seen.blocks] + [seen.penultimate]
    split = seen.penultimate.new_tensor([len(layers), *(layer.shape[1] for layer in layers)])
    return torch.cat([split.expand(len(seen.penultimate), -1), *layers], dim=1)


MAKERS: dict[str, Callable[[Pass], Tensor]] = {
    "block_norms": lambda seen: block_norms(seen.blocks),
    "jigsaw_block_norms": _jigsaw_block_norms,
    "channel_maxima": _channel_maxima,
}


def odin(model: Network, images: Tensor, temperature: float, eps: float, logits: Tensor | None = None) -> Tensor:
    """ODIN's score (Liang et al. 2018): a step of `eps` in pixel units ([0, 1]) towards the predicted class, then the largest softmax at T, float64.

    `logits` of a pass that was made already are taken over; with a step they must carry their graph back to `images`.
    """
    if eps:
        if logits is None:
            images = images.clone().requires_grad_()
            logits = model(images)
        loss = F.cross_entropy(logits / temperature, logits.argmax(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images, retain_graph=True)  # another ODIN setting may follow
        images, logits = images.detach() - eps * gradient.sign(), None
    with torch.no_grad():
        logits = (model(images) if logits is None else logits.detach()).double() / temperature
    return logits.softmax(1).amax(1)
