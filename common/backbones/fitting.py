"""Which tensors of somebody's file are those of a body here, and which are a head: by name, behind wrappers, under the names that others use."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from common.cli.errors import UserError

# Where others keep weights in a file, in this order of preference; other keys are looked into after these
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "state_dict_ema", "model_ema", "ema")
# What wrappers put in front of a tensor's name
PREFIXES = ("module.", "_orig_mod.", "body.", "backbone.", "encoder.", "model.", "net.", "network.")
# Parts that others name otherwise; theirs: ours
NAMES = (
    ("convShortcut", "shortcut"),
    ("shortcut", "downsample"),
    ("downsample", "shortcut"),
    (".layer.", "."),
    ("bn1.", "bn."),
    *((f"{part}.{number}", f"{part}{number}") for part in ("norm", "conv") for number in (1, 2)),  # old DenseNets
)
# What others call the last linear layer
HEADS = (
    "fc", "linear", "classifier", "head", "head.fc", "head.classifier", "classifier.1", "last_linear", "logits", "output", "out",
)  # fmt: skip
SHOWN = 3  # tensors in a message


@dataclass(frozen=True)
class Fit:
    """What a file gave to a body. `whose`: the file and where in it; `names`: ours -> theirs; `rest`: what is not of the body, without wrappers."""

    whose: str
    names: dict[str, str] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)

    def heads(self, channels: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> weight (outputs x channels) and bias (zeros where there is none) of every layer in `rest` that could be the head."""
        found = {}
        for name, tensor in self.rest.items():
            stem, _, last = name.rpartition(".")
            if (
                last == "weight"
                and tensor.is_floating_point()
                and tensor.shape[1:].numel() == tensor.shape[1:2].numel() == channels
            ):
                weight = tensor.reshape(len(tensor), channels).float()
                bias = self.rest.get(f"{stem}.bias", torch.zeros(len(weight))).float()
                if bias.shape == (len(weight),) and weight.isfinite().all() and bias.isfinite().all():
                    found[stem] = weight, bias
        return found


def listed(tensors: dict[str, Tensor], names: Iterable[str]) -> str:
    """`conv1.weight 64 x 3 x 3 x 3, bn1.weight 64, ...`"""
    names = list(names)
    return ", ".join(f"{n} {size(tensors[n])}" for n in names[:SHOWN]) + ", ..." * (len(names) > SHOWN) or "none"


def size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def put(inner: nn.Module, content: Any, name: str, whose: str) -> Fit:
    """Copy the tensors of `content` into the body `inner` of the network `name`. Raises UserError that names what does not fit."""
    ours = inner.state_dict()
    found = [
        (len(names.keys() & ours.keys()), key, tensors, names) for key, tensors, names in _candidates(content, ours)
    ]
    if not found:
        raise UserError(f"{whose} holds no tensors by name; expected the state_dict of {name}")
    count, key, tensors, names = max(found, key=lambda one: one[0])  # of equals the first
    theirs = {new: tensors[old] for new, old in names.items()}
    rivals = [(other, t, n) for same, other, t, n in found if same == count and count and n is not names]
    if others := [other for other, t, n in rivals if not _equal({new: t[old] for new, old in n.items()}, theirs, ours)]:
        raise UserError(
            f"{whose} holds weights of {name} under {key or 'no key'} and {', '.join(others)}; keep one of them in the file"
        )
    whose += f" ({key})" if key else ""
    _check_names(theirs, ours, name, whose)
    for n in (n for n in ours if n in theirs):
        _check(theirs[n], ours[n], f"{whose} does not fit {name}: {n}")
    fill(inner, theirs)
    fitting = {new: old for new, old in names.items() if new in ours}
    return Fit(whose, fitting, {n: tensor for n, tensor in theirs.items() if n not in ours})


@torch.no_grad()
def fill(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the tensors that have the name of one of the network's. Not by load_state_dict, in which a part may look for more: torchvision's MNASNet
    makes its stem anew where no version is said."""
    for name, tensor in net.state_dict().items():
        if name in weights:
            tensor.copy_(weights[name])


def _check_names(theirs: dict[str, Tensor], ours: dict[str, Tensor], name: str, whose: str) -> None:
    if doubled := [(n, _our_name(n, ours)) for n in theirs if n not in ours and _our_name(n, ours) in ours]:
        raise UserError(f"{whose} holds more than one tensor for {doubled[0][1]} of {name}, one is {doubled[0][0]}")
    # A counter that files from before torch 0.4.1 lack; batch norm with a fixed momentum does not use it
    missing = [n for n in ours if n not in theirs and not n.endswith("num_batches_tracked")]
    parts = {n.split(".")[0] for n in ours}
    others = [n for n in theirs if n not in ours]
    if missing:
        expected = f"expected {listed(ours, missing)}; found {listed(theirs, others)}"
        raise UserError(
            f"{whose} does not fit {name}: {len(missing)} tensors missing, the first is {missing[0]}; {expected}"
        )
    if left := [n for n in others if n.split(".")[0] in parts and n.rpartition(".")[0] not in HEADS]:
        raise UserError(
            f"{whose} does not fit {name}, which has no place for {len(left)} of its tensors, the first is {left[0]}; "
            f"found {listed(theirs, left)}; expected {listed(ours, _beside(left[0], ours))}"
        )


def _beside(name: str, ours: dict[str, Tensor]) -> list[str]:
    """Our names in the same part of the network, the last ones."""
    return [n for n in ours if n.split(".")[0] == name.split(".")[0]][-SHOWN:]


def _check(theirs: Tensor, ours: Tensor, said: str) -> None:
    if theirs.shape != ours.shape:
        raise UserError(f"{said} is {size(theirs)} there, {size(ours)} here")
    if theirs.is_floating_point() != ours.is_floating_point():
        raise UserError(f"{said} is {theirs.dtype} there, {ours.dtype} here")
    if theirs.is_floating_point() and not theirs.isfinite().all():
        raise UserError(f"{said} holds values that are NaN or infinite")


def _equal(a: dict[str, Tensor], b: dict[str, Tensor], names: dict[str, Tensor]) -> bool:
    return all(a[n].shape == b[n].shape and bool((a[n] == b[n]).all()) for n in names.keys() & a.keys() & b.keys())


def _candidates(
    content: Any, ours: dict[str, Tensor], key: str = ""
) -> Iterator[tuple[str, dict[str, Tensor], dict[str, str]]]:
    """Every dictionary of tensors in `content`: the keys that lead to it, its tensors, and our name -> theirs of each."""
    if not isinstance(content, dict):
        return
    if tensors := {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
    }:
        yield key, tensors, _renamed(tensors, ours)
    inside = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name in sorted(inside, key=lambda name: KEYS.index(name) if name in KEYS else len(KEYS)):
        yield from _candidates(inside[name], ours, f"{key}.{name}".strip("."))


def _renamed(tensors: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, str]:
    """Our name -> theirs. Two of one name would be a guess: then both keep theirs."""
    names = {name: _our_name(name, ours) for name in tensors}
    times = Counter(names.values())
    return {(new if times[new] == 1 else name): name for name, new in names.items()}


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
