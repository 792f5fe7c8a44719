"""Bodies: from normalised images to a feature map."""

import math

import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SmallResNet(nn.Module):
    """Stem and three basic blocks, 32-64-128 channels, for CPU work: 8 layers, one location per 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.layer1, self.layer2, self.layer3 = _basic(32, 32, 1), _basic(32, 64, 2), _basic(64, 128, 2)

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))


def _basic(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


class TorchvisionBody(nn.Module):
    """A torchvision ResNet up to its last residual stage. `cifar` puts a 3x3 stem without max-pool in front, as the field does at 32 px."""

    def __init__(self, net: ResNet, cifar: bool):
        super().__init__()
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
        widths, each = [16, 16 * width, 32 * width, 64 * width], (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages = []
        for stage in range(3):
            inputs, outputs, stride = widths[stage], widths[stage + 1], 1 if stage == 0 else 2
            stages.append(
                nn.Sequential(
                    *[
                        WideBlock(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1, dropout)
                        for i in range(each)
                    ]
                )
            )
        self.block1, self.block2, self.block3 = stages
        self.bn = nn.BatchNorm2d(widths[3])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(
                    module.weight,
                    0,
                    math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)),
                )

    def forward(self, x):
        return F.relu(self.bn(self.block3(self.block2(self.block1(self.conv1(x))))))


class TimmBody(nn.Module):
    """A timm network without its classifier; its `forward_features` must give a map, batch x channels x rows x cols."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.forward_features(x)
