"""What a file of a whole classifier says beside the tensors of its body: its head, what it normalises by, and whether it is pooled as networks here are."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from common.backbones.bodies import TimmBody, Trunk
from common.backbones.classifier import Classifier, Stats
from common.backbones.fitting import HEADS, SHOWN, Fit, fill, listed, size
from common.backbones.weights import timm_network, torchvision_network
from common.cli.errors import UserError

CLOSE = 1e-5  # of logits, against the largest


def head_of(fit: Fit, model: Classifier, named: str = "") -> tuple[str, Tensor, Tensor]:
    """Name, weight and bias of the file's head: the layer `named`, else the only one that could be it, else the only one with a customary name.

    Raises UserError where there is none, more than one, or one of another number of outputs than the model's.
    """
    linear = fit.heads(model.channels)
    fitting = {name: tensors for name, tensors in linear.items() if len(tensors[0]) == model.classes}
    choices = {named: linear[named]} if named in linear else {} if named else fitting
    if len(choices) > 1:
        choices = {name: tensors for name, tensors in choices.items() if name in HEADS} or choices
    if len(choices) > 1:
        raise UserError(
            f"{fit.whose} has {len(choices)} layers that could be its head: {', '.join(choices)}; choose one with --head"
        )
    expected = f"a weight of {model.classes} x {model.channels}, one row a class"
    if not choices:
        there = listed(fit.rest, fit.rest)
        raise UserError(
            f"{fit.whose} has no {f'head {named}' if named else 'head that fits'}: expected {expected}; beside the body it has {there}"
        )
    ((name, (weight, bias)),) = choices.items()
    if len(weight) != model.classes:
        raise UserError(f"{fit.whose}: its head {name} is {size(weight)}, expected {expected}")
    return name, weight, bias


def stats_in(fit: Fit) -> Stats | None:
    """The mean and deviation of a normalising first layer that the file brings along; None where it has none."""
    found = {name.rpartition(".")[2]: t.flatten().tolist() for name, t in fit.rest.items() if t.numel() == 3}
    for mean, std in (("mean", "std"), ("mu", "sigma")):
        if mean in found and std in found and min(found[std]) > 0:
            return tuple(found[mean]), tuple(found[std])
    return None


def source_of(model: Classifier) -> nn.Module | None:
    """The library's own classifier with this model's weights; None for a network that is written here."""
    arch = model.name.partition(":")[2]
    if isinstance(model.body, TimmBody):
        net = timm_network(model.body.net.pretrained_cfg["architecture"], num_classes=model.classes)
        state, head = model.body.net.state_dict(), net.get_classifier()
    elif isinstance(model.body, Trunk):
        net = torchvision_network(arch, num_classes=model.classes)
        state, head = model.body.state_dict(), [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    else:
        return None
    fill(net, state)
    left = [name for name in net.state_dict() if name not in state]
    of_head = {f"{name}.{part}" for name, m in net.named_modules() if m is head for part in ("weight", "bias")}
    if not isinstance(head, (nn.Linear, nn.Conv2d)) or set(left) - of_head:
        raise UserError(
            f"{model.name} has more than a linear head behind its feature map: {', '.join(sorted(set(left) - of_head)[:SHOWN])}"
        )
    head.load_state_dict({"weight": model.head.weight.reshape(head.weight.shape), "bias": model.head.bias})
    return net.eval()


@torch.no_grad()
def check_pooling(model: Classifier, side_px: int) -> None:
    """Raise UserError unless map, mean and head give the logits that the library's own network gives: some have a layer between mean and head."""
    model.eval()
    images = torch.rand(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(0)) * 4 - 2
    if (net := source_of(model)) is None:
        return
    ours, theirs = model.head(model.pool(model.body(images))), net(images)
    if not (ours - theirs).abs().max() <= CLOSE * theirs.abs().max().clamp_min(1):
        raise UserError(
            f"{model.name} does more between its feature map and its head than take the mean; such a network is scored as it is: docs/own_network.md"
        )


def became(fit: Fit, model: Classifier, head: str) -> list[str]:
    """Lines that say what became of the file's tensors."""
    renamed = [f"{theirs} -> {ours}" for ours, theirs in fit.names.items() if ours != theirs]
    kept = [ours for ours, theirs in fit.names.items() if ours == theirs]
    unused = [name for name in fit.rest if name not in (f"{head}.weight", f"{head}.bias")]
    lines = [f"{fit.whose}: {len(fit.names) or 'all'} tensors of {model.name}"]
    lines += [f"kept under their names: {_some(kept)}"] * bool(kept) + [f"renamed: {_some(renamed)}"] * bool(renamed)
    lines += [
        f"head: {head}, {model.classes} x {model.channels}{'' if f'{head}.bias' in fit.rest else ', without a bias: zeros'}"
    ]
    return lines + [f"unused: {_some(unused, 20)}"] * bool(unused)


def _some(names: Iterable[str], most: int = SHOWN) -> str:
    names = list(names)
    return f"{len(names)} ({', '.join(names[:most])}{', ...' * (len(names) > most)})"
