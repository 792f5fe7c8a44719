"""A finer feature map from the same weights: strides of the last stages replaced by dilation ("à trous"; DFB's code has it as an option).

The map of a network without normalisation over locations is then the old map at every old location, with new locations between them.
"""

import torch
from torch import nn

from common.backbones.weights import timm_network
from common.cli.errors import UserError

SIDE = 64  # pixels of the image that is passed to see where the strides are


def set_output_stride(model: nn.Module, output_stride: int) -> None:
    """Give a Classifier one location per `output_stride` pixels; its weights stay. Raises UserError for a stride it cannot have."""
    if (net := getattr(model.body, "net", None)) is None:
        dilate(model.body, output_stride)
    else:  # timm's networks have their own rule, the same one where they have any
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride of {model.name} must be 8, 16 or 32 (timm's rule), got {output_stride}")
        try:
            finer = timm_network(net.pretrained_cfg["architecture"], output_stride=output_stride)
        except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
            raise UserError(f"{model.name} cannot have output_stride {output_stride}: {error}") from error
        finer.load_state_dict(net.state_dict())
        model.body.net = finer.to(next(net.parameters())).train(model.training)
    model.output_stride = output_stride


def dilate(body: nn.Module, output_stride: int) -> None:
    """Change strides, dilations and paddings of `body` so that it has a location per `output_stride` pixels; no weight changes.

    Raises UserError unless output_stride is the body's own stride divided by a power of two.
    """
    if any(isinstance(module, nn.AvgPool2d) for module in body.modules()):
        raise UserError(
            f"output_stride {output_stride}: this network averages neighbours between its stages, which no dilation replaces"
        )
    before, own = _strides(body)
    if output_stride < 1 or own % output_stride or (own // output_stride).bit_count() != 1:
        raise UserError(
            f"output_stride must be the network's own, {own}, divided by a power of two, got {output_stride}"
        )
    for module, stride in before.items():
        step, dilation, padding = (_single(value) for value in (module.stride, module.dilation, module.padding))
        wider = stride // min(stride, output_stride)  # its input is this much finer than it was
        module.stride = min(stride * step, output_stride) // min(stride, output_stride)
        module.dilation, module.padding = wider * dilation, wider * padding
        if isinstance(module, nn.Conv2d):
            module.stride, module.dilation, module.padding = (
                2 * (value,) for value in (module.stride, module.dilation, module.padding)
            )


def _single(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]


@torch.no_grad()
def _strides(body: nn.Module) -> tuple[dict[nn.Module, int], int]:
    """Pixels a location at the input of each convolution and pooling, and at the body's output."""
    found: dict[nn.Module, int] = {}
    windows = [module for module in body.modules() if isinstance(module, (nn.Conv2d, nn.MaxPool2d))]
    hooks = [
        m.register_forward_pre_hook(lambda module, inputs: found.update({module: SIDE // inputs[0].shape[-1]}))
        for m in windows
    ]
    training = body.training
    own = SIDE // body.eval()(torch.zeros(1, 3, SIDE, SIDE)).shape[-1]
    body.train(training)
    for hook in hooks:
        hook.remove()
    return found, own
