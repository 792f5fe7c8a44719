"""Bodies of the networks whose trained weights are public for CIFAR, under the names that tensors have in those files."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedBlock(nn.Module):
    """Basic block whose shortcut has no weights: every `stride`-th location, zeros for the new channels ("option A" of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.added = (outputs - inputs) // 2  # channels of zeros on either side

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        rows, cols = self.conv1.stride  # 1 where a finer map was asked for (output_stride.py)
        return F.relu(out + F.pad(x[:, :, ::rows, ::cols], (0, 0, 0, 0, self.added, self.added)))


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56, ... for 32 px (He et al. 2016, section 4.2): three stages of (depth - 2) / 6 blocks, 16-32-64 channels.

    Tensors and draws as in akamaster/pytorch_resnet_cifar10.
    """

    def __init__(self, depth: int):
        super().__init__()
        each = (depth - 2) // 6

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                PaddedBlock(inputs, outputs, stride), *(PaddedBlock(outputs, outputs, 1) for _ in range(each - 1))
            )

        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))


class DenseLayer(nn.Module):
    """Bottleneck of a DenseNet-BC: 1x1 to four times `growth`, 3x3 to `growth`, put behind its input."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))), 1)


class DenseBlock(nn.Module):
    def __init__(self, inputs: int, growth: int, layers: int):
        super().__init__()
        self.layer = nn.Sequential(*(DenseLayer(inputs + growth * i, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Transition(nn.Module):
    """To half the channels, then the mean of each 2 x 2 locations."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv1(F.relu(self.bn1(x))))


class DenseNetBC(nn.Module):
    """DenseNet-BC for 32 px, depth 100 and growth 12 (Huang et al. 2017): three dense blocks; the map is taken after the last norm and ReLU.

    Tensors and draws as in andreasveit/densenet-pytorch and deeplearning-wisc/dice, whose papers call it DenseNet-101.
    """

    def __init__(self, depth: int = 100, growth: int = 12):
        super().__init__()
        layers, channels = (depth - 4) // 6, 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        for number in (1, 2, 3):
            setattr(self, f"block{number}", DenseBlock(channels, growth, layers))
            channels += growth * layers
            if number < 3:
                setattr(self, f"trans{number}", Transition(channels, channels // 2))
                channels //= 2
        self.bn1 = nn.BatchNorm2d(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans2(self.block2(self.trans1(self.block1(self.conv1(x)))))
        return F.relu(self.bn1(self.block3(x)))
