"""Networks of timm and torchvision by name, with what their weights want of an image: `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from common.backbones.classifier import IMAGENET_STATS, Stats
from common.backbones.weights import hub_network, load_whole, timm_network, torchvision_network
from common.cli.errors import UserError
from common.data.transforms import Transform

LIBRARIES = ("timm", "torchvision")
# torchvision's change their input by a switch that their weights do not hold
SWITCHED = ("torchvision:inception_v3", "torchvision:googlenet")


class Named(NamedTuple):
    """A network, its statistics and its test transform. `name`: without the file, for `rebuild`."""

    net: nn.Module
    name: str
    stats: Stats
    transform: Transform


def is_name(text: str) -> bool:
    return text.partition(":")[0] in LIBRARIES and ":" in text


def named_network(text: str, classes: int) -> Named:
    """The network with weights of FILE, all of them, its head too; without FILE those of the hub, head included.

    Raises UserError for a name that the library does not know, weights that do not fit or cannot be fetched.
    """
    name, _, file = text.partition("@")
    _refuse_switched(name)
    net = rebuild(name, classes) if file else hub_network(name, head=True)
    if file:
        load_whole(net, name, Path(file))
    return Named(net.eval(), name, *_preparation(name, net))


def rebuild(name: str, classes: int) -> nn.Module:
    """The network of that name with weights that mean nothing yet."""
    library, _, arch = name.partition(":")
    return (timm_network if library == "timm" else torchvision_network)(arch, num_classes=classes)


def _refuse_switched(name: str) -> None:
    if name in SWITCHED:
        raise UserError(
            f"{name}: its switch transform_input is not in its weights; make it yourself and give it to Detector.from_module, or take timm's"
        )


def _preparation(name: str, net: nn.Module) -> tuple[Stats, Transform]:
    library, _, arch = name.partition(":")
    if library == "torchvision":
        from torchvision import models

        weights = models.get_model_weights(arch)
        if (made := getattr(getattr(weights, "DEFAULT", None), "transforms", None)) is None:
            return IMAGENET_STATS, Transform(224, "resize-crop", 256)
        how = made()
        size, resize = how.crop_size[0], how.resize_size[0]
        return (tuple(how.mean), tuple(how.std)), Transform(
            size, "resize-crop", max(size, resize), how.interpolation.value
        )
    from timm.data import resolve_model_data_config

    how = resolve_model_data_config(net)
    size, kind = how["input_size"][-1], how["interpolation"]
    kind = kind if kind in ("bilinear", "bicubic", "nearest") else "bicubic"
    rule = "squeeze" if how["crop_mode"] == "squash" else "resize-crop"
    resize = None if rule == "squeeze" else int(size / how["crop_pct"])
    return (tuple(how["mean"]), tuple(how["std"])), Transform(size, rule, resize, kind)
