"""Networks and weights of a body that came from elsewhere. timm and torchvision are slow to import, so that they are where they are used."""

from pathlib import Path

import torch
from torch import Tensor, nn

from common.backbones.bodies import TimmBody
from common.backbones.classifier import Classifier
from common.cli.errors import UserError

BIT = "resnetv2_50x1_bit.goog_in21k"


def timm_network(arch: str, **options) -> nn.Module:
    """timm's network without its classifier. Raises UserError for a name timm does not know."""
    import timm

    if not timm.is_model(arch.split(".")[0]):
        raise UserError(f"unknown timm network {arch!r}; `timm.list_models()` lists the known ones")
    return timm.create_model(arch, num_classes=0, **options)


def load_weights(model: Classifier, name: str, weights: Path | str) -> None:
    inner = model.body.net if isinstance(model.body, TimmBody) else model.body
    if str(weights) == "hub":
        inner.load_state_dict(_hub_weights(name), strict=False)
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


def _hub_weights(name: str) -> dict[str, Tensor]:
    if name == "resnet50":
        from torchvision import models

        return models.get_model(name, weights="IMAGENET1K_V1").state_dict()
    if name == "bit-r50x1" or name.startswith("timm:"):
        return timm_network(BIT if name == "bit-r50x1" else name.removeprefix("timm:"), pretrained=True).state_dict()
    raise UserError(f"no hub has weights for {name}; give a file, or train from scratch")
