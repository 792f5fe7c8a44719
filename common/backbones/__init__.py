"""The networks: a body that ends in a feature map, global average pooling, one linear head.

Normalisation is the network's first layer, so an image always enters in [0, 1]. The feature map is the body's output after its last
activation. Pooling and head are both linear, so the mean over locations of `local_logits` is the image's logits (LBF fact F1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from common.backbones.blocks import timm_blocks
from common.backbones.bodies import SmallResNet, TimmBody, TorchvisionBody, WideResNet
from common.backbones.classifier import Classifier
from common.backbones.output_stride import set_output_stride
from common.backbones.weights import BIT, load_weights, timm_network
from common.cli.errors import UserError, unknown

__all__ = ["BACKBONES", "Classifier", "Spec", "build", "spec"]

# --- the table of networks -----------------------------------------------------------------------------------------------------------


def _stages(*names: str) -> Callable[[nn.Module], list[nn.Module]]:
    def blocks(body: nn.Module) -> list[nn.Module]:
        stages = [getattr(body, name) for name in names]
        return [block for stage in stages for block in (stage if isinstance(stage, nn.Sequential) else [stage])]

    return blocks


@dataclass(frozen=True)
class Spec:
    """How to make a body. `image_size` is the size in pixels it is meant for (others work where the architecture allows)."""

    make: Callable[[], nn.Module]
    channels: int
    image_size: int
    blocks: Callable[[nn.Module], list[nn.Module]]
    note: str


_FOUR = _stages("layer1", "layer2", "layer3", "layer4")
BACKBONES: dict[str, Spec] = {
    "resnet8": Spec(SmallResNet, 128, 48, _stages("layer1", "layer2", "layer3"), "three basic blocks, for CPU work"),
    "resnet18": Spec(lambda: TorchvisionBody("resnet18", True), 512, 32, _FOUR, "3x3 stem, 4 x 4 map at 32 px"),
    "resnet34": Spec(lambda: TorchvisionBody("resnet34", True), 512, 32, _FOUR, "as resnet18 (LBF Table I)"),
    "wrn28-10": Spec(
        WideResNet, 640, 32, _stages("block1", "block2", "block3"), "8 x 8 map at 32 px, dropout 0.3 (LBF Table II)"
    ),
    "resnet50": Spec(
        lambda: TorchvisionBody("resnet50", False), 2048, 224, _FOUR, "7 x 7 map at 224 px (LBF Table III)"
    ),
    "bit-r50x1": Spec(
        lambda: TimmBody(timm_network(BIT)), 2048, 128, lambda b: timm_blocks(b.net), f"timm {BIT} (DFB)"
    ),
}


def _timm_spec(arch: str) -> Spec:
    net = timm_network(arch)
    size_px = net.default_cfg.get("input_size", (3, 224, 224))[-1]
    return Spec(lambda: TimmBody(net), net.num_features, size_px, lambda body: timm_blocks(body.net), arch)


def spec(name: str) -> Spec:
    """The entry of BACKBONES, or one made for `timm:NAME`. Raises UserError for an unknown name."""
    if name.startswith("timm:"):
        return _timm_spec(name.removeprefix("timm:"))
    if name not in BACKBONES:
        raise unknown("backbone", name, [*BACKBONES, "timm:NAME"])
    return BACKBONES[name]


def build(
    name: str,
    classes: int,
    *,
    weights: Path | str | None = None,
    image_size: int | None = None,
    output_stride: int | None = None,
) -> Classifier:
    """A Classifier with `classes` outputs.

    `weights`: a file of body weights (a state dict of this body, torchvision's or timm's own, or Google's BiT `.npz`), or the word
    "hub" to let timm or torchvision fetch theirs; None draws new ones from torch's global generator. `image_size` (pixels) only checks
    that the network gives a feature map at that size. `output_stride`: pixels per location, where not the network's own. Raises UserError
    for an unknown name, too few classes, unfit weights, a stride the network cannot have.
    """
    if classes < 2:
        raise UserError(f"classes must be >= 2, got {classes}")
    made = spec(name)
    model = Classifier(name, made.make(), made.channels, classes, made.blocks)
    if weights is not None:
        load_weights(model, name, weights)
    if output_stride is not None:
        set_output_stride(model, output_stride)
    if image_size is not None:
        _check_map(model, image_size)
    return model


def _check_map(model: Classifier, image_size: int) -> None:
    training = model.training
    with torch.no_grad():
        shape = model.eval().feature_map(torch.zeros(1, 3, image_size, image_size)).shape
    model.train(training)
    if len(shape) != 4 or shape[1] != model.channels or min(shape[2:]) < 1:
        raise UserError(
            f"{model.name} gives features of shape {tuple(shape)} at {image_size} px; expected 1 x {model.channels} x rows x cols;"
            " a network without a map is not trained here, but scored: docs/own_network.md"
        )
