"""The networks: a body that ends in a feature map, global average pooling, one linear head.

Normalisation is the network's first layer, so an image always enters in [0, 1]. The feature map is the body's output after its last
activation. Pooling and head are both linear, so the mean over locations of `local_logits` is the image's logits (LBF fact F1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from common.cli.errors import UserError, unknown
from common.backbones.output_stride import set_output_stride

Stats = tuple[tuple[float, float, float], tuple[float, float, float]]
CIFAR10_STATS: Stats = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_STATS: Stats = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
IMAGENET_STATS: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_STATS: Stats = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # BiT, and the generated benchmark


class Normalise(nn.Module):
    """(image - mean) / std per channel; mean and std are buffers, so a checkpoint is complete."""

    def __init__(self, stats: Stats = HALF_STATS):
        super().__init__()
        self.register_buffer("mean", torch.tensor(stats[0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(stats[1]).view(1, 3, 1, 1))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Normalise, body, mean over locations, head."""

    def __init__(self, name: str, body: nn.Module, channels: int, classes: int, blocks: Callable[[nn.Module], list[nn.Module]]):
        super().__init__()
        self.name = name
        self.normalise = Normalise()
        self.body = body
        self.head = nn.Linear(channels, classes)
        self.bf16 = False  # run the body in bfloat16 (autocast); head, norms and losses stay in float32
        self.output_stride: int | None = None  # pixels per location, where it is not the network's own
        self._blocks = blocks

    @property
    def classes(self) -> int:
        return self.head.out_features

    @property
    def channels(self) -> int:
        return self.head.in_features

    def blocks(self) -> list[nn.Module]:
        """Every residual block, from the input on (FeatureNorm and MaSF read their outputs)."""
        return self._blocks(self.body)

    def feature_map(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows cols"]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.body(self.normalise(images)).to(images.dtype)

    @staticmethod
    def pool(feature_map: Float[Tensor, "batch channels rows cols"]) -> Float[Tensor, "batch channels"]:
        return feature_map.mean(dim=(2, 3))

    def local_logits(self, feature_map: Float[Tensor, "batch channels rows cols"]) -> Float[Tensor, "batch classes rows cols"]:
        """The head on every location, bias included (LBF Eq. 4 before the softmax)."""
        return F.conv2d(feature_map, self.head.weight[:, :, None, None], self.head.bias)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.pool(self.feature_map(images)))


# --- bodies --------------------------------------------------------------------------------------------------------------------------


class SmallResNet(nn.Module):
    """Stem and three basic blocks, 32-64-128 channels, for CPU work: 8 layers, one location per 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.layer1, self.layer2, self.layer3 = _basic(32, 32, 1), _basic(32, 64, 2), _basic(64, 128, 2)

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))


def _basic(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


class TorchvisionBody(nn.Module):
    """A torchvision ResNet up to its last residual stage. `cifar` puts a 3x3 stem without max-pool in front, as the field does at 32 px."""

    def __init__(self, net: ResNet, cifar: bool):
        super().__init__()
        stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if cifar else net.conv1
        if cifar:
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.conv1, self.bn1, self.relu = stem, net.bn1, net.relu
        self.maxpool = nn.Identity() if cifar else net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class WideBlock(nn.Module):
    """Pre-activation block of a wide ResNet (Zagoruyko & Komodakis 2016), dropout between its convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        self.dropout = dropout

    def forward(self, x):
        active = F.relu(self.bn1(x))
        out = F.dropout(F.relu(self.bn2(self.conv1(active))), self.dropout, self.training)
        return self.conv2(out) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-width for 32 px: three stages of (depth - 4) / 6 blocks; the map is taken after the last norm and ReLU."""

    def __init__(self, depth: int = 28, width: int = 10, dropout: float = 0.3):
        super().__init__()
        widths, each = [16, 16 * width, 32 * width, 64 * width], (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages = []
        for stage in range(3):
            inputs, outputs, stride = widths[stage], widths[stage + 1], 1 if stage == 0 else 2
            stages.append(nn.Sequential(*[WideBlock(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1, dropout) for i in range(each)]))
        self.block1, self.block2, self.block3 = stages
        self.bn = nn.BatchNorm2d(widths[3])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)))

    def forward(self, x):
        return F.relu(self.bn(self.block3(self.block2(self.block1(self.conv1(x))))))


class TimmBody(nn.Module):
    """A timm network without its classifier; its `forward_features` must give a map, batch x channels x rows x cols."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.forward_features(x)


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
BIT = "resnetv2_50x1_bit.goog_in21k"
BACKBONES: dict[str, Spec] = {
    "resnet8": Spec(SmallResNet, 128, 48, _stages("layer1", "layer2", "layer3"), "three basic blocks, for CPU work"),
    "resnet18": Spec(lambda: TorchvisionBody(torchvision.models.resnet18(), True), 512, 32, _FOUR, "3x3 stem, 4 x 4 map at 32 px"),
    "resnet34": Spec(lambda: TorchvisionBody(torchvision.models.resnet34(), True), 512, 32, _FOUR, "3x3 stem, 4 x 4 map at 32 px (LBF Table I)"),
    "wrn28-10": Spec(WideResNet, 640, 32, _stages("block1", "block2", "block3"), "8 x 8 map at 32 px, dropout 0.3 (LBF Table II)"),
    "resnet50": Spec(lambda: TorchvisionBody(torchvision.models.resnet50(), False), 2048, 224, _FOUR, "7 x 7 map at 224 px (LBF Table III)"),
    "bit-r50x1": Spec(lambda: TimmBody(timm.create_model(BIT, num_classes=0)), 2048, 128, lambda body: _timm_blocks(body.net), f"timm {BIT} (DFB)"),
}


def _timm_blocks(net: nn.Module) -> list[nn.Module]:
    stages = getattr(net, "stages", None)
    return [block for stage in stages for block in getattr(stage, "blocks", [])] if stages is not None else []


def _timm_spec(name: str) -> Spec:
    arch = name.removeprefix("timm:")
    if not timm.is_model(arch.split(".")[0]):
        raise UserError(f"unknown timm network {arch!r}; `timm.list_models()` lists the known ones")
    net = timm.create_model(arch, num_classes=0)
    return Spec(lambda: TimmBody(net), net.num_features, net.default_cfg.get("input_size", (3, 224, 224))[-1], lambda b: _timm_blocks(b.net), arch)


def spec(name: str) -> Spec:
    """The entry of BACKBONES, or one made for `timm:NAME`. Raises UserError for an unknown name."""
    if name.startswith("timm:"):
        return _timm_spec(name)
    if name not in BACKBONES:
        raise unknown("backbone", name, [*BACKBONES, "timm:NAME"])
    return BACKBONES[name]


def build(
    name: str, classes: int, *, weights: Path | str | None = None, image_size: int | None = None, output_stride: int | None = None
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
        _load_weights(model, name, weights)
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
        raise UserError(f"{model.name} gives features of shape {tuple(shape)} at {image_size} px; expected 1 x {model.channels} x rows x cols")


def _load_weights(model: Classifier, name: str, weights: Path | str) -> None:
    inner = model.body.net if isinstance(model.body, TimmBody) else model.body
    if str(weights) == "hub":
        inner.load_state_dict(_hub_weights(name, inner), strict=False)
        return
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"no weights at {path}")
    if path.suffix == ".npz":
        if not hasattr(inner, "load_pretrained"):
            raise UserError(f"{path}: Google's .npz form fits bit-r50x1 and timm's ResNetV2 networks only, not {name}")
        try:
            inner.load_pretrained(str(path))
        except (KeyError, ValueError, AssertionError, RuntimeError) as error:
            raise UserError(f"{path} does not fit {name}: {error}") from error
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        raise UserError(f"{path} is not a weight file that can be read safely: {type(error).__name__}") from error
    state = state.get("state_dict", state)
    state = {key.removeprefix("module.").removeprefix("body."): value for key, value in state.items()}
    missing, _ = inner.load_state_dict({k: v for k, v in state.items() if k in inner.state_dict()}, strict=False)
    if missing:
        raise UserError(f"{path} does not fit {name}: {len(missing)} tensors missing, the first is {missing[0]}")


def _hub_weights(name: str, inner: nn.Module) -> dict[str, Tensor]:
    if name == "resnet50":
        return torchvision.models.resnet50(weights="IMAGENET1K_V1").state_dict()
    if name == "bit-r50x1" or name.startswith("timm:"):
        return timm.create_model(BIT if name == "bit-r50x1" else name.removeprefix("timm:"), pretrained=True, num_classes=0).state_dict()
    raise UserError(f"no hub has weights for {name}; give a file, or train from scratch")
