"""Networks and weights of a body that came from elsewhere. timm and torchvision are slow to import, so that they are where they are used.

A file of weights fits whole or is refused: every tensor of the body has one of its name and shape there, and no tensor there that belongs to such
a body is left over (those of a head, of an objective or of a second network are).
"""

import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.backbones.bodies import TimmBody
from common.backbones.classifier import Classifier
from common.cli.arrays import in_short, read_npz
from common.cli.errors import UserError
from common.cli.tensors import is_whole, read_tensors

BIT = "resnetv2_50x1_bit.goog_in21k"
WHAT = "a file of weights that can be read safely"
# Where others keep weights in a file, in this order of preference; other keys are looked into after these
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "state_dict_ema", "model_ema")
# What wrappers put in front of a tensor's name
PREFIXES = ("module.", "_orig_mod.", "body.", "backbone.", "encoder.", "model.", "net.", "network.")
# Parts that others name otherwise; theirs: ours
NAMES = (
    ("convShortcut", "shortcut"),
    ("shortcut", "downsample"),
    ("downsample", "shortcut"),
    (".layer.", "."),
    ("bn1.", "bn."),
)


def timm_network(arch: str, **options) -> nn.Module:
    """timm's network without its classifier. Raises UserError for a name, or a tag behind it, that timm does not know."""
    import timm

    if not timm.is_model(arch.split(".")[0]):
        raise UserError(f"unknown timm network {arch!r}; `timm.list_models()` lists the known ones")
    try:
        return timm.create_model(arch, num_classes=0, **options)
    except RuntimeError as error:
        if "pretrained tag" not in str(error):
            raise
        raise UserError(f"unknown timm network {arch!r}: {in_short(error)}") from error


def load_weights(model: Classifier, name: str, weights: Path | str) -> None:
    """Put weights of the body `name` into the model: of a file, or those of its hub for "hub". Raises UserError that says what does not fit."""
    inner = model.body.net if isinstance(model.body, TimmBody) else model.body
    if str(weights) == "hub":
        _put(inner, _hub_weights(name), name, f"the hub's weights of {name}")
        return
    path = Path(weights)
    if not path.exists():
        raise UserError(f"no weights at {path}")
    if path.suffix == ".npz":
        _load_google(inner, path, name)
    else:
        _put(inner, _of_file(path), name, str(path))


def load_whole(net: nn.Module, name: str, path: Path) -> None:
    """Put a file's weights into a network made elsewhere, its head too. Raises UserError that says what does not fit."""
    if not path.exists():
        raise UserError(f"no weights at {path}")
    _put(net, _of_file(path), name, str(path))


def _load_google(inner: nn.Module, path: Path, name: str) -> None:
    if not hasattr(inner, "load_pretrained"):
        raise UserError(f"{path}: Google's .npz form fits bit-r50x1 and timm's ResNetV2 networks only, not {name}")
    read_npz(path, "weights in Google's .npz form")  # whole, which timm does not look at
    try:
        inner.load_pretrained(str(path))
    except Exception as error:  # timm asserts, indexes and copies
        raise UserError(f"{path} does not fit {name}: {in_short(error)}") from error


def _of_file(path: Path) -> Any:
    """What a file holds, as long as it is whole: zips have checksums."""
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


def _put(inner: nn.Module, content: Any, name: str, whose: str) -> None:
    """Copy the tensors of `content` into the body. Raises UserError that names the first that does not fit."""
    ours = inner.state_dict()
    found = [(len(fitting.keys() & ours.keys()), key, fitting) for key, fitting in _candidates(content, ours)]
    if not found:
        raise UserError(f"{whose} holds no tensors by name; expected the state_dict of {name}")
    count, key, theirs = max(found, key=lambda one: one[0])  # of equals the first
    rivals = [(other, those) for same, other, those in found if same == count and count and those is not theirs]
    if others := [other for other, those in rivals if not _equal(those, theirs, ours)]:
        raise UserError(
            f"{whose} holds weights of {name} under {key} and {', '.join(others)}; keep one of them in the file"
        )
    whose += f" ({key})" if key else ""
    if doubled := [(n, _our_name(n, ours)) for n in theirs if n not in ours and _our_name(n, ours) in ours]:
        raise UserError(f"{whose} holds more than one tensor for {doubled[0][1]} of {name}, one is {doubled[0][0]}")
    # A counter that files from before torch 0.4.1 lack; batch norm with a fixed momentum does not use it
    if missing := [n for n in ours if n not in theirs and not n.endswith("num_batches_tracked")]:
        raise UserError(f"{whose} does not fit {name}: {len(missing)} tensors missing, the first is {missing[0]}")
    parts = {n.split(".")[0] for n in ours}
    if left := [n for n in theirs if n not in ours and n.split(".")[0] in parts]:
        raise UserError(
            f"{whose} does not fit {name}, which has no place for {len(left)} of its tensors, the first is {left[0]}"
        )
    for n in ours.keys() & theirs.keys():
        _check(theirs[n], ours[n], f"{whose} does not fit {name}: {n}")
    inner.load_state_dict({n: theirs[n] for n in ours if n in theirs}, strict=False)
    if other := dict.fromkeys(n.split(".")[0] for n in theirs if n not in ours):
        print(f"{whose}: not of the body, left out: {', '.join(other)}", file=sys.stderr)


def _check(theirs: Tensor, ours: Tensor, said: str) -> None:
    if theirs.shape != ours.shape:
        sizes = (" x ".join(map(str, t.shape)) or "one number" for t in (theirs, ours))
        raise UserError(f"{said} is {next(sizes)} there, {next(sizes)} here")
    if theirs.is_floating_point() != ours.is_floating_point():
        raise UserError(f"{said} is {theirs.dtype} there, {ours.dtype} here")
    if theirs.is_floating_point() and not theirs.isfinite().all():
        raise UserError(f"{said} holds values that are NaN or infinite")


def _equal(a: dict[str, Tensor], b: dict[str, Tensor], names: dict[str, Tensor]) -> bool:
    return all(a[n].shape == b[n].shape and bool((a[n] == b[n]).all()) for n in names.keys() & a.keys() & b.keys())


def _candidates(content: Any, ours: dict[str, Tensor], key: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of tensors in `content`, with the keys that lead to it, its tensors under our names where they have one."""
    if not isinstance(content, dict):
        return
    if tensors := {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
    }:
        yield key, _renamed(tensors, ours)
    inside = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name in sorted(inside, key=lambda name: KEYS.index(name) if name in KEYS else len(KEYS)):
        yield from _candidates(inside[name], ours, f"{key}.{name}".strip("."))


def _renamed(tensors: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under our names. Two of one name would be a guess: then both keep theirs."""
    names = {name: _our_name(name, ours) for name in tensors}
    times = Counter(names.values())
    return {(new if times[new] == 1 else name): tensors[name] for name, new in names.items()}


def _our_name(name: str, ours: dict[str, Tensor]) -> str:
    """The name that a tensor has here: without prefixes, or with parts called as we do."""
    while name not in ours:
        stripped = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), None)
        other = _called_otherwise(name, ours)
        if other or stripped is None:
            return other or name
        name = stripped
    return name


def _called_otherwise(name: str, ours: dict[str, Tensor]) -> str | None:
    """The first of our names that renaming leads to, in one or two steps."""
    once = [name.replace(theirs, mine) for theirs, mine in NAMES if theirs in name]
    twice = [one.replace(theirs, mine) for one in once for theirs, mine in NAMES if theirs in one]
    return next((one for one in (*once, *twice) if one in ours), None)


def _hub_weights(name: str) -> dict[str, Tensor]:
    arch = BIT if name == "bit-r50x1" else name.removeprefix("timm:")
    if name != "resnet50" and arch == name:
        raise UserError(f"no hub has weights for {name}; give a file, or train from scratch")
    try:
        if name == "resnet50":
            from torchvision import models

            return models.get_model(name, weights="IMAGENET1K_V1").state_dict()
        return timm_network(arch, pretrained=True).state_dict()
    except UserError:
        raise
    except Exception as error:  # of half a dozen libraries, by what it is that fails
        reason = in_short(error)
        raise UserError(
            f"weights of {name} cannot be fetched ({reason}); without internet give a file: --weights FILE"
        ) from error
