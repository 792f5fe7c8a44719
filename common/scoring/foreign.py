"""Any network as scores see it: normalise, the network, the input of its last linear layer as penultimate features, that layer as head.

`common.scoring.head` finds that layer. In every pass the network's own logits are held against those of the head: what is scored is what it says.
"""

import copy
import threading
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.backbones.blocks import timm_blocks
from common.backbones.classifier import Headed, Normalise, Stats
from common.backbones.fitting import fill
from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.scoring.head import AFTER, alike, find, linear, pooled, tensors
from common.training.seeds import generator

# Families of timm and torchvision whose residual blocks give maps, batch x channels x rows x cols
WITH_MAPS = ("ResNet", "ResNetV2", "DenseNet", "RegNet", "EfficientNet", "MobileNetV3", "VGG", "ConvNeXt")


class Foreign(Headed):
    """A network made elsewhere, with what `common.scoring.features` asks of one. It holds a copy: what becomes of the original changes nothing.

    `classes`: how many outputs it must have; `weights`: put in place of its own. Threads may pass images at once. Raises UserError that says why a network cannot be read.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        classes: int,
        size_px: int,
        stats: Stats,
        head: str | None = None,
        weights: dict[str, Tensor] | None = None,
    ):
        super().__init__()
        self.name = name
        self.net = _copied(net).eval().requires_grad_(False)
        if weights is not None:
            replace_weights(self.net, weights)
        self.normalise = Normalise(stats)
        place = next((p for p in self.net.parameters() if p.is_floating_point()), torch.empty(0))
        self.dtype = place.dtype
        self.normalise.to(place.device)
        self.reading = find(self._answer, self.net, noise(size_px).to(place.device), classes, head, self.tolerance)
        layer = self.net.get_submodule(self.reading.head)
        self.by_channel_first = isinstance(layer, nn.Conv2d)
        self.head = linear(layer)
        self._seen = threading.local()
        layer.register_forward_pre_hook(self._see, with_kwargs=True)

    @property
    def tolerance(self) -> float:
        """Of logits, as a share of the largest (or of 1, if that is less). GPUs convolve float32 in TF32 unless told otherwise."""
        place = self.normalise.mean.device
        return 0.03 if self.dtype != torch.float32 else 1e-5 if place.type == "cpu" else 3e-3

    def blocks(self) -> list[nn.Module]:
        """Residual blocks, where the family's are known to give maps."""
        kind = type(self.net)
        known = kind.__module__.split(".")[0] in ("timm", "torchvision") and kind.__name__ in WITH_MAPS
        return timm_blocks(self.net) if known else []

    def penultimate(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels"]:
        """The head's input, pooled as the network pools. Raises UserError where the network's own logits are not the head's answer to it."""
        h, theirs = self.read(images)
        with torch.no_grad():
            ours = AFTER[self.reading.after](self.head(h))
            if ours.shape != theirs.shape or not alike(ours, theirs, self.tolerance):
                raise UserError(
                    f"{self.name}: its outputs are not those of {self.reading.head}, as they were when it was looked at,"
                    " or NaN"
                )
        return h

    def read(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch channels"], Float[Tensor, "..."]]:
        """`penultimate` and the network's own answer, which nobody holds against each other: a graph can be traced through this."""
        self._seen.inputs = []
        answer = list(tensors(self._answer(images)))
        inputs, self._seen.inputs = self._seen.inputs, None
        if len(inputs) != 1 or len(answer) <= self.reading.output:
            raise UserError(f"{self.name}: {self.reading.head} was used {len(inputs)} times in a pass, expected once")
        h = pooled(inputs[0], self.by_channel_first, self.reading.pool).float()
        return h, answer[self.reading.output].float()

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """The head's logits, also of a network that ends in a softmax."""
        return self.head(self.penultimate(images))

    def _answer(self, images: Tensor) -> Any:
        return self.net(self.normalise(images).to(self.dtype))

    def _see(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        if (inputs := getattr(self._seen, "inputs", None)) is not None:
            inputs.append(args[0] if args else kwargs["input"])


def noise(size_px: int) -> Float[Tensor, "images 3 height width"]:
    """Two images, always the same: what a network answers to them says which one it is."""
    return torch.rand(2, 3, size_px, size_px, generator=generator(0, "probe"))


def replace_weights(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy all its tensors. Raises UserError unless names, shapes and types are the network's."""
    ours = net.state_dict()
    for name in dict.fromkeys((*ours, *weights)):
        there, here = (
            "nothing" if one is None else f"{one.dtype} {tuple(one.shape)}"
            for one in (weights.get(name), ours.get(name))
        )
        if there != here:
            raise UserError(f"{type(net).__name__} is another network: {name} is {there} in the file, {here} in it")
    fill(net, weights)


def _copied(net: nn.Module) -> nn.Module:
    """Without the wrappers that run a network elsewhere."""
    net = getattr(net, "_orig_mod", net)  # torch.compile
    net = net.module if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else net
    if isinstance(net, torch.jit.ScriptModule):
        raise UserError(
            "the network is TorchScript, whose layers cannot be looked at; give the nn.Module it was made of"
        )
    if not isinstance(net, nn.Module):
        raise UserError(f"the network must be a torch.nn.Module, got {type(net).__name__}")
    try:
        return copy.deepcopy(net)
    except Exception as error:  # whatever its parts raise
        raise UserError(f"{type(net).__name__} cannot be copied: {in_short(error)}") from error
