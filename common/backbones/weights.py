"""Networks and weights of a body that came from elsewhere. timm and torchvision are slow to import, so that they are where they are used.

A file of weights fits whole or is refused: every tensor of the body has one of its name and shape there, and no tensor there that belongs to such
a body is left over (those of a head, of an objective or of a second network are).
"""

import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.backbones.bodies import TimmBody
from common.backbones.classifier import Classifier
from common.backbones.fitting import Fit, put
from common.cli.arrays import in_short, read_npz
from common.cli.errors import UserError
from common.cli.tensors import is_whole, read_tensors

BIT = "resnetv2_50x1_bit.goog_in21k"
WHAT = "a file of weights that can be read safely"


def timm_network(arch: str, **options) -> nn.Module:
    """timm's network, without its classifier unless `num_classes` says otherwise. Raises UserError for a name, or a tag behind it, that timm does not know."""
    import timm

    if not timm.is_model(arch.split(".")[0]):
        raise UserError(f"unknown timm network {arch!r}; `timm.list_models()` lists the known ones")
    try:
        return timm.create_model(arch, **{"num_classes": 0} | options)
    except RuntimeError as error:
        if "pretrained tag" not in str(error):
            raise
        raise UserError(f"unknown timm network {arch!r}: {in_short(error)}") from error


def torchvision_network(arch: str, **options) -> nn.Module:
    """torchvision's classifier of that name, new. Raises UserError for a name that torchvision does not know."""
    from torchvision import models

    if arch not in models.list_models(module=models):
        raise UserError(
            f"unknown torchvision network {arch!r}; `torchvision.models.list_models()` lists the known ones"
        )
    return models.get_model(arch, **options)


def load_weights(model: Classifier, name: str, weights: Path | str) -> None:
    """Put weights of the body `name` into the model: of a file, or those of its hub for "hub". A head of as many outputs as the model has is kept,
    where there is one alone; what is left out is named. Raises UserError that says what does not fit."""
    fit = load_body(model, name, weights)
    rest = dict.fromkeys(n.split(".")[0] for n in fit.rest)
    heads = {head: t for head, t in fit.heads(model.channels).items() if len(t[0]) == model.classes}
    if len(heads) == 1:
        (head, tensors), *_ = heads.items()
        put_head(model, *tensors)
        print(f"{fit.whose}: its head {head}, of {model.classes} outputs too, is kept", file=sys.stderr)
        rest.pop(head.split(".")[0], None)
    if rest:
        print(f"{fit.whose}: not of the body, left out: {', '.join(rest)}", file=sys.stderr)


def put_head(model: Classifier, weight: Tensor, bias: Tensor) -> None:
    """weight classes x channels, bias classes"""
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)


def load_body(model: Classifier, name: str, weights: Path | str, content: Any = None, head: bool = False) -> Fit:
    """Put weights of the body `name` into the model's body, and say which they were and what else is there. `content`: what the file holds, where it has
    been read. `head`: of a hub, fetch the head too. Raises UserError that says what does not fit."""
    inner = model.body.net if isinstance(model.body, TimmBody) else model.body
    if str(weights) == "hub":
        return put(inner, hub_network(name, head).state_dict(), name, f"the hub's weights of {name}")
    path = Path(weights)
    if path.suffix == ".npz" and path.exists():
        return _load_google(inner, path, name)
    return put(inner, read_weights(path) if content is None else content, name, str(path))


def load_whole(net: nn.Module, name: str, path: Path) -> None:
    """Put a file's weights into a network made elsewhere, its head too. Raises UserError that says what does not fit."""
    put(net, read_weights(path), name, str(path))


def _load_google(inner: nn.Module, path: Path, name: str) -> Fit:
    if not hasattr(inner, "load_pretrained"):
        raise UserError(f"{path}: Google's .npz form fits bit-r50x1 and timm's ResNetV2 networks only, not {name}")
    arrays = read_npz(path, "weights in Google's .npz form")  # whole, which timm does not look at
    try:
        inner.load_pretrained(str(path))
    except Exception as error:  # timm asserts, indexes and copies
        raise UserError(f"{path} does not fit {name}: {in_short(error)}") from error
    rest = {n.removeprefix("resnet/"): torch.from_numpy(array) for n, array in arrays.items() if "head/" in n}
    words = {"head/conv2d/kernel": "head.weight", "head/conv2d/bias": "head.bias"}
    return Fit(str(path), rest={words.get(n, n): t.permute(3, 2, 0, 1) if t.dim() == 4 else t for n, t in rest.items()})


def read_weights(path: Path) -> Any:
    """What a file of weights holds, as long as it is whole: zips have checksums. Raises UserError for another file."""
    if not path.exists():
        raise UserError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # SafetensorError is no more than an Exception
            raise UserError(f"{path} is not {WHAT}: {in_short(error)}") from error
    content = read_tensors(path, WHAT)
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise UserError(f"{path} is damaged: the checksums of the archive do not hold")
    return content


def hub_network(name: str, head: bool) -> nn.Module:
    """The network with the weights that timm or torchvision fetch, its classifier too where `head` says so (torchvision's always has it).

    Raises UserError where no hub has them, or it cannot be reached.
    """
    arch = BIT if name == "bit-r50x1" else name.removeprefix("timm:")
    ours = name == "resnet50" or name.startswith("torchvision:")
    if not ours and arch == name:
        raise UserError(f"no hub has weights for {name}; give a file, or train from scratch")
    try:
        if ours:
            version = "IMAGENET1K_V1" if name == "resnet50" else "DEFAULT"
            return torchvision_network(name.removeprefix("torchvision:"), weights=version)
        return timm_network(arch, pretrained=True, **({"num_classes": None} if head else {}))
    except UserError:
        raise
    except Exception as error:  # of half a dozen libraries, by what it is that fails
        said = f"weights of {name} cannot be fetched ({in_short(error)}); without internet give a file of them"
        raise UserError(said) from error
