"""A file of weights in the form of Google's BiT release, for tests of its readers."""

import numpy as np


def google_file(path, net, head=None):
    """A file in the form of Google's release, filled from a network of the same architecture."""
    state, arrays = net.state_dict(), {}
    hwio = lambda name: state[name].numpy().transpose(2, 3, 1, 0)  # noqa: E731
    arrays["resnet/root_block/standardized_conv2d/kernel"] = hwio("stem.conv.weight")
    arrays["resnet/group_norm/gamma"], arrays["resnet/group_norm/beta"] = (
        state["norm.weight"].numpy(),
        state["norm.bias"].numpy(),
    )
    for s, stage in enumerate(net.stages):
        for b, block in enumerate(stage.blocks):
            cname = f"resnet/block{s + 1}/unit{b + 1:02d}"
            for i, letter in enumerate("abc", 1):
                arrays[f"{cname}/{letter}/standardized_conv2d/kernel"] = hwio(f"stages.{s}.blocks.{b}.conv{i}.weight")
                for word, kind in (("gamma", "weight"), ("beta", "bias")):
                    arrays[f"{cname}/{letter}/group_norm/{word}"] = state[
                        f"stages.{s}.blocks.{b}.norm{i}.{kind}"
                    ].numpy()
            if block.downsample is not None:
                arrays[f"{cname}/a/proj/standardized_conv2d/kernel"] = hwio(
                    f"stages.{s}.blocks.{b}.downsample.conv.weight"
                )
    if head is not None:  # a 1x1 convolution
        arrays["resnet/head/conv2d/kernel"] = head.weight.detach().numpy().transpose(2, 3, 1, 0)
        arrays["resnet/head/conv2d/bias"] = head.bias.detach().numpy()
    np.savez(path, **arrays)
