"""Where the residual blocks of timm's families are: FeatureNorm and MaSF read their outputs."""

from torch import nn

# Attributes that hold a family's stages, in order: ResNet and its kin; RegNet.
STAGES = (("layer1", "layer2", "layer3", "layer4"), ("s1", "s2", "s3", "s4"))


def timm_blocks(net: nn.Module) -> list[nn.Module]:
    """Every residual block from the input on, without the stem; of a DenseNet its dense blocks, of a VGG its activations, one a convolution.

    Empty for a family that is not known here: nothing is guessed.
    """
    features, named = getattr(net, "features", nn.Module()), dict(net.named_children())
    if type(net).__name__ == "DenseNet":
        return [block for name, block in features.named_children() if name.startswith("denseblock")]
    if type(net).__name__ == "VGG":
        return [layer for layer in features if isinstance(layer, nn.ReLU)]
    for names in STAGES:
        if set(names) <= set(named):
            return [block for name in names for block in named[name].children()]
    for name in ("stages", "blocks"):  # ConvNeXt, ResNetV2, NFNet, ...; EfficientNet, MobileNet, ...
        if isinstance(stages := named.get(name), (nn.Sequential, nn.ModuleList)):
            return [block for stage in stages for block in _of_stage(stage)]
    return []


def _of_stage(stage: nn.Module) -> list[nn.Module]:
    """A stage's blocks: those it names so, or all its parts, or nothing where it is of another kind."""
    inner = getattr(stage, "blocks", stage)
    return list(inner) if isinstance(inner, (nn.Sequential, nn.ModuleList)) else []
