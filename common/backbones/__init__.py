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
from common.backbones.bodies import SmallResNet, TimmBody, TorchvisionBody, Trunk, WideResNet
from common.backbones.cifar import CifarResNet, DenseNetBC
from common.backbones.classifier import HALF_STATS, IMAGENET_STATS, PUBLIC_CIFAR_STATS, Classifier, Stats
from common.backbones.output_stride import set_output_stride
from common.backbones.rotated import TURNS, Rotated
from common.backbones.weights import BIT, load_weights, timm_network, torchvision_network
from common.cli.arrays import in_short
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
    """How to make a body. `image_size` is the size in pixels it is meant for (others work where the architecture allows); `stats`: what its public
    weights were normalised by, where there is but one answer."""

    make: Callable[[], nn.Module]
    channels: int
    image_size: int
    blocks: Callable[[nn.Module], list[nn.Module]]
    note: str
    stats: Stats | None = None


_THREE, _FOUR = _stages("layer1", "layer2", "layer3"), _stages("layer1", "layer2", "layer3", "layer4")
_BLOCKS = _stages("block1", "block2", "block3")
BACKBONES: dict[str, Spec] = {
    "resnet8": Spec(SmallResNet, 128, 48, _THREE, "three basic blocks, for CPU work"),
    "resnet18": Spec(lambda: TorchvisionBody("resnet18", True), 512, 32, _FOUR, "3x3 stem, 4 x 4 map at 32 px"),
    "resnet34": Spec(lambda: TorchvisionBody("resnet34", True), 512, 32, _FOUR, "as resnet18 (LBF Table I)"),
    "wrn28-10": Spec(WideResNet, 640, 32, _BLOCKS, "8 x 8 map at 32 px, dropout 0.3 (LBF Table II)"),
    "wrn40-2": Spec(lambda: WideResNet(40, 2), 128, 32, _BLOCKS, "8 x 8 map at 32 px, dropout 0.3"),
    "resnet20": Spec(
        lambda: CifarResNet(20), 64, 32, _THREE, "8 x 8 map at 32 px, shortcuts without weights", IMAGENET_STATS
    ),
    "resnet32": Spec(lambda: CifarResNet(32), 64, 32, _THREE, "as resnet20", IMAGENET_STATS),
    "resnet44": Spec(lambda: CifarResNet(44), 64, 32, _THREE, "as resnet20", IMAGENET_STATS),
    "resnet56": Spec(lambda: CifarResNet(56), 64, 32, _THREE, "as resnet20", IMAGENET_STATS),
    "densenet100-12": Spec(
        DenseNetBC, 342, 32, _BLOCKS, "DenseNet-BC, 8 x 8 map at 32 px (DICE: DenseNet-101)", PUBLIC_CIFAR_STATS
    ),
    "resnet50": Spec(
        lambda: TorchvisionBody("resnet50", False),
        2048,
        224,
        _FOUR,
        "7 x 7 map at 224 px (LBF Table III)",
        IMAGENET_STATS,
    ),
    "bit-r50x1": Spec(
        lambda: TimmBody(timm_network(BIT)), 2048, 128, lambda b: timm_blocks(b.net), f"timm {BIT} (DFB)", HALF_STATS
    ),
}


def _timm_spec(arch: str) -> Spec:
    net = timm_network(arch)
    size_px = net.default_cfg.get("input_size", (3, 224, 224))[-1]
    stats = tuple(net.default_cfg.get("mean", ())), tuple(net.default_cfg.get("std", ()))
    known = stats if len(stats[0]) == len(stats[1]) == 3 else None
    return Spec(lambda: TimmBody(net), net.num_features, size_px, lambda body: timm_blocks(body.net), arch, known)


def _torchvision_spec(arch: str) -> Spec:
    net = torchvision_network(arch)
    body, heads = Trunk(net, relu="densenet" in arch), [m for m in net.modules() if isinstance(m, nn.Linear)]
    if not heads or not len(body):
        raise UserError(f"torchvision's {arch} has no body before a pooling and a linear head")
    return Spec(lambda: body, heads[-1].in_features, 224, timm_blocks, arch, IMAGENET_STATS)


def spec(name: str) -> Spec:
    """The entry of BACKBONES, or one made for `timm:NAME`, `torchvision:NAME` or, of any of them, `rotated:NAME` (rotated.py). Raises UserError
    for an unknown name."""
    if name.startswith("rotated:"):
        once = spec(name.removeprefix("rotated:"))
        return Spec(
            lambda: Rotated(once.make()),
            TURNS * once.channels,
            once.image_size,
            lambda body: [body],
            f"{once.note}, turned",
            once.stats,
        )
    if name.startswith("timm:"):
        return _timm_spec(name.removeprefix("timm:"))
    if name.startswith("torchvision:"):
        return _torchvision_spec(name.removeprefix("torchvision:"))
    if name not in BACKBONES:
        raise unknown("backbone", name, [*BACKBONES, "timm:NAME", "torchvision:NAME"])
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
    if weights is not None and name.startswith("rotated:"):
        raise UserError(f"weights {weights} are of one body, not of {name}; train it with --objective csi")
    if weights is not None:
        load_weights(model, name, weights)
    if output_stride is not None:
        set_output_stride(model, output_stride)
    if image_size is not None:
        _check_map(model, image_size)
    return model


def _check_map(model: Classifier, image_size: int) -> None:
    training, otherwise = model.training, "a network without a map is not trained here, but scored: docs/own_network.md"
    try:
        with torch.no_grad():
            shape = model.eval().feature_map(torch.zeros(1, 3, image_size, image_size)).shape
    except Exception as error:  # whatever a network raises
        raise UserError(
            f"{model.name} cannot pass images of {image_size} px ({in_short(error)}); {otherwise}"
        ) from error
    model.train(training)
    if len(shape) != 4 or shape[1] != model.channels or min(shape[2:]) < 1:
        raise UserError(
            f"{model.name} gives features of shape {tuple(shape)} at {image_size} px; expected 1 x {model.channels} x rows x cols;"
            f" {otherwise}"
        )
