import math

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from common.backbones.bodies import BasicBlock, WideResNet


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 2), (8, 16, 1)])
def test_the_basic_block_is_torchvisions_draws_and_names_included(inputs, outputs, stride):
    torch.manual_seed(0)
    ours = BasicBlock(inputs, outputs, stride)
    torch.manual_seed(0)
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    theirs = resnet.BasicBlock(inputs, outputs, stride, shortcut)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))
    images = torch.randn(4, inputs, 10, 10)
    assert torch.equal(ours(images), theirs(images)) and torch.equal(ours.bn2.running_var, theirs.bn2.running_var)


def test_a_wide_resnet_has_its_blocks_and_the_spread_of_its_weights():
    torch.manual_seed(0)
    net = WideResNet(depth=16, width=2)
    assert [len(block) for block in (net.block1, net.block2, net.block3)] == [2, 2, 2]
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 8, 8)
    conv = net.block3[1].conv2  # 128 outputs of 3 x 3
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.01)
