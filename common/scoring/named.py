"""Networks of timm and torchvision by name, with what their weights want of an image: `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from common.backbones.classifier import IMAGENET_STATS, Stats
from common.backbones.weights import load_whole
from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.data.transforms import Transform

LIBRARIES = ("timm", "torchvision")
# torchvision's change their input by a switch that their weights do not hold
SWITCHED = ("inception_v3", "googlenet")


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
    net = rebuild(name, classes) if file else _from_hub(name)
    if file:
        load_whole(net, name, Path(file))
    return Named(net.eval(), name, *_preparation(name, net))


def rebuild(name: str, classes: int) -> nn.Module:
    """The network of that name with weights that mean nothing yet."""
    library, _, arch = name.partition(":")
    _check(library, arch)
    try:
        if library == "timm":
            import timm

            return timm.create_model(arch, num_classes=classes)
        from torchvision import models

        return models.get_model(arch, num_classes=classes)
    except RuntimeError as error:
        if "pretrained tag" not in str(error):
            raise
        raise UserError(f"unknown timm network {arch!r}: {in_short(error)}") from error


def _check(library: str, arch: str) -> None:
    if library == "timm":
        import timm

        if not timm.is_model(arch.split(".")[0]):
            raise UserError(f"unknown timm network {arch!r}; `timm.list_models()` lists the known ones")
        return
    from torchvision import models

    if arch not in models.list_models(module=models):
        raise UserError(
            f"unknown torchvision network {arch!r}; `torchvision.models.list_models()` lists the known ones"
        )
    if arch in SWITCHED:
        raise UserError(
            f"torchvision:{arch}: its switch transform_input is not in its weights; make it yourself and give it to"
            " Detector.from_module, or take timm's"
        )


def _from_hub(name: str) -> nn.Module:
    library, _, arch = name.partition(":")
    _check(library, arch)
    try:
        if library == "timm":
            import timm

            return timm.create_model(arch, pretrained=True)
        from torchvision import models

        return models.get_model(arch, weights="DEFAULT")
    except Exception as error:  # of half a dozen libraries, by what it is that fails
        reason = in_short(error)
        raise UserError(
            f"weights of {name} cannot be fetched ({reason}); without internet give a file: {name}@FILE"
        ) from error


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
