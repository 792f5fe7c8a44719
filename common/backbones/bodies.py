"""Bodies: from normalised images to a feature map."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import nn


class SmallResNet(nn.Module):
    """Stem and three basic blocks, 32-64-128 channels, for CPU work: 8 layers, one location per 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.layer1, self.layer2, self.layer3 = BasicBlock(32, 32, 1), BasicBlock(32, 64, 2), BasicBlock(64, 128, 2)

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))


class BasicBlock(nn.Module):
    """torchvision's block of two 3x3 convolutions (He et al. 2016), draws and names of tensors included; importing torchvision takes a second."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        shortcut = None
        if stride != 1 or inputs != outputs:  # made first: initial weights are drawn in this order
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class TorchvisionBody(nn.Module):
    """A torchvision ResNet up to its last residual stage. `cifar` puts a 3x3 stem without max-pool in front, as the field does at 32 px."""

    def __init__(self, name: str, cifar: bool):
        from torchvision import models  # slow to import

        super().__init__()
        net = models.get_model(name)
        stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if cifar else net.conv1
        if cifar:
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.conv1, self.bn1, self.relu = stem, net.bn1, net.relu
        self.maxpool = nn.Identity() if cifar else net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class WideBlock(nn.Module):
    """Pre-activation block of a wide ResNet (Zagoruyko & Komodakis 2016), dropout between its convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        self.dropout = dropout

    def forward(self, x):
        active = F.relu(self.bn1(x))
        out = F.dropout(F.relu(self.bn2(self.conv1(active))), self.dropout, self.training)
        return self.conv2(out) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-width for 32 px: three stages of (depth - 4) / 6 blocks; the map is taken after the last norm and ReLU."""

    def __init__(self, depth: int = 28, width: int = 10, dropout: float = 0.3):
        super().__init__()
        each = (depth - 4) // 6

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            first = WideBlock(inputs, outputs, stride, dropout)
            return nn.Sequential(first, *(WideBlock(outputs, outputs, 1, dropout) for _ in range(each - 1)))

        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = stage(16, 16 * width, 1)
        self.block2, self.block3 = stage(16 * width, 32 * width, 2), stage(32 * width, 64 * width, 2)
        self.bn = nn.BatchNorm2d(64 * width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return F.relu(self.bn(self.block3(self.block2(self.block1(self.conv1(x))))))


class TimmBody(nn.Module):
    """A timm network without its classifier; its `forward_features` must give a map, batch x channels x rows x cols."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.forward_features(x)


class Trunk(nn.Sequential):
    """Another's network up to its global pooling, under its own names of tensors. `relu`: what that network does between its parts and its pooling."""

    def __init__(self, net: nn.Module, relu: bool):
        parts = {}
        for name, part in net.named_children():
            if name in ("avgpool", "classifier", "fc"):
                break
            parts[name] = part
        super().__init__(OrderedDict(parts))
        self.relu_last = relu

    def forward(self, x):
        x = super().forward(x)
        return F.relu(x) if self.relu_last else x
