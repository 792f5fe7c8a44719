"""Where a network's head is, and how its logits follow from it.

Seen by passing two images: once as they are, once with random numbers put in place of a layer's output. If the network's answer is then those
numbers, averaged or picked over locations or tokens, that layer is its head; a network of which no layer is, is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.cli.arrays import in_short
from common.cli.errors import UserError
from common.training.seeds import generator

# From "batch locations channels" to one vector an image; "none" has one location. The first that fits counts
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda rows: rows.squeeze(1),
    "mean over locations": lambda rows: rows.mean(1),
    "first token": lambda rows: rows[:, 0],
    "mean over all tokens but the first": lambda rows: rows[:, 1:].mean(1),
    "last token": lambda rows: rows[:, -1],
}
AFTER: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "log-softmax": lambda logits: logits.log_softmax(1),
}


@dataclass(frozen=True)
class Reading:
    """How penultimate features and logits are read from a network. `output`: which of the tensors that it returns are the logits."""

    head: str
    pool: str
    after: str
    output: int


def find(
    answer: Callable[[Tensor], Any], net: nn.Module, images: Tensor, classes: int, named: str | None, tolerance: float
) -> Reading:
    """How a network is read. `named`: its head, where it is not to be looked for. Raises UserError that says what does not fit."""
    called = _calls(answer, net, images, classes)
    name = type(net).__name__
    if named is not None and named not in called:
        raise UserError(f"{name} has no linear layer {named!r} in its pass; it has: {', '.join([*called][-8:])}")
    if not called:
        raise UserError(f"{name} has no linear layer (nn.Linear, or a convolution as the last layer)")
    last = named or [*called][-1]
    fitting = [one for one in reversed(called) if _width(net, one) == classes and named in (None, one)]
    if not fitting:
        raise UserError(
            f"classes names {classes}, and {last}, the last layer of {name}, has {_width(net, last)} outputs"
        )
    for one in fitting:
        if called[one].times == 1 and (found := _reading(answer, net, images, one)) is not None:
            _check_linear(net, one, called[one], tolerance)
            return found
    raise UserError(f"{name} cannot be read: {_why(net, last, fitting, classes)}; see docs/own_network.md")


def _why(net: nn.Module, last: str, fitting: list[str], classes: int) -> str:
    if len(fitting) > 1:
        return f"more than one layer makes its {classes} outputs ({', '.join(reversed(fitting))}), none of them alone"
    if isinstance(net.get_submodule(last), nn.Conv2d):
        return f"its last layer, {last}, is a convolution, and its outputs are not that layer's mean over locations"
    return f"its outputs are not those of {fitting[0]}: something changes them afterwards, or that layer is used twice"


@dataclass
class Call:
    """What a layer got and gave in one pass; kept only where it gives as many numbers as there are classes."""

    inputs: Tensor | None
    output: Tensor | None
    times: int


@torch.no_grad()
def _calls(answer: Callable[[Tensor], Any], net: nn.Module, images: Tensor, classes: int) -> dict[str, Call]:
    """Each linear layer and convolution, in the order of their last use."""
    calls: dict[str, Call] = {}

    def seen(name: str) -> Callable:
        def hook(_: nn.Module, args: tuple, kwargs: dict, out: Tensor) -> None:
            times = calls.pop(name).times + 1 if name in calls else 1
            kept = (
                ((args[0] if args else kwargs["input"]).clone(), out.clone())
                if _width(net, name) == classes
                else (None, None)
            )
            calls[name] = Call(*kept, times)

        return hook

    layers = [(name, m) for name, m in net.named_modules() if name and isinstance(m, (nn.Linear, nn.Conv2d))]
    hooks = [m.register_forward_hook(seen(name), with_kwargs=True) for name, m in layers]
    try:
        found = list(tensors(answer(images)))
    except Exception as error:  # whatever a network raises
        size = " x ".join(map(str, images.shape[1:]))
        raise UserError(f"{type(net).__name__} cannot pass images of {size}: {in_short(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not all(tensor.isfinite().all() for tensor in found if tensor.is_floating_point()):
        raise UserError(f"{type(net).__name__} answers with NaN or infinity; are its weights whole?")
    return calls


@torch.no_grad()
def _reading(answer: Callable[[Tensor], Any], net: nn.Module, images: Tensor, name: str) -> Reading | None:
    """How the network's answer follows from the output of one layer; None where it is not one of the ways known here."""
    layer, put = net.get_submodule(name), []

    def replace(_: nn.Module, __: tuple, out: Tensor) -> Tensor:
        numbers = 3 * torch.randn(out.shape, generator=generator(0, "in place of logits"))
        put.append(numbers.to(out))
        return put[-1].clone()

    hook = layer.register_forward_hook(replace)
    try:
        found = list(tensors(answer(images)))
    finally:
        hook.remove()
    for k, tensor in enumerate(found):
        for pool in POOLS:
            logits = pooled(put[0], isinstance(layer, nn.Conv2d), pool)
            for after, function in AFTER.items():
                fits = tensor.shape == logits.shape and alike(function(logits), tensor, 1e-5)
                if fits or (logits.dtype != torch.float32 and _alike_half(function(logits), tensor)):
                    return Reading(name, pool, after, k)
    return None


def _check_linear(net: nn.Module, name: str, call: Call, tolerance: float) -> None:
    layer = net.get_submodule(name)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
        size = " x ".join(map(str, layer.kernel_size))
        raise UserError(f"{type(net).__name__} cannot be read: its last layer, {name}, is a convolution of {size}")
    first = isinstance(layer, nn.Conv2d)
    ours = linear(layer)(_rows(call.inputs, first).float())
    if not alike(ours, _rows(call.output, first).float(), tolerance):
        raise UserError(f"{type(net).__name__} cannot be read: its last layer, {name}, is more than W h + b")


def linear(layer: nn.Linear | nn.Conv2d) -> nn.Linear:
    """Its weight and bias (0 where it has none), float32, in a layer of their own."""
    weight = layer.weight.detach().flatten(1).float()
    head = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device).requires_grad_(False)
    head.weight.copy_(weight)
    head.bias.copy_(layer.bias.detach().float()) if layer.bias is not None else head.bias.zero_()
    return head


def _width(net: nn.Module, name: str) -> int:
    layer = net.get_submodule(name)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def _rows(values: Tensor, channel_first: bool) -> Tensor:
    """batch locations channels"""
    values = values.movedim(1, -1) if channel_first else values
    return values.reshape(values.shape[0], -1, values.shape[-1])  # len() would fix a traced batch


def pooled(values: Tensor, channel_first: bool, pool: str) -> Tensor:
    return POOLS[pool](_rows(values, channel_first))


def alike(a: Tensor, b: Tensor, share: float) -> bool:
    """Within a share of the largest; False where either is not finite."""
    return bool((a - b).abs().max() <= share * b.abs().max().clamp_min(1))


def _alike_half(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and alike(a.float(), b.float(), 0.03)


def tensors(answer: Any) -> Iterator[Tensor]:
    """All that a network returns, in its order, also from within tuples and dictionaries."""
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, (Mapping, tuple, list)):
        for part in answer.values() if isinstance(answer, Mapping) else answer:
            yield from tensors(part)
