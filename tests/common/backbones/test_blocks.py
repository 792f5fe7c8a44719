import pytest
import timm
import torch
from torch import nn

from common.backbones.blocks import timm_blocks

# What the families' papers count, without the stem. MobileNetV3's last convolution stands in its stages, so it is one more.
BLOCKS = {
    "resnet18": 8, "resnext50_32x4d": 16, "resnetv2_50x1_bit": 16, "regnety_002": 13, "efficientnet_b0": 16, "mobilenetv2_100": 17,
    "mobilenetv3_small_100": 12, "convnext_atto": 12, "densenet121": 4, "vgg11": 8, "nfnet_f0": 12, "inception_v3": 0, "swin_tiny_patch4_window7_224": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_of_timms_families(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    blocks = timm_blocks(net)
    assert len(blocks) == len({id(block) for block in blocks}) == BLOCKS[name]
    order = [id(module) for module in net.modules()]
    assert [order.index(id(block)) for block in blocks] == sorted(order.index(id(block)) for block in blocks)


def test_a_network_of_nobodys_family_has_none():
    assert timm_blocks(nn.Sequential(nn.Conv2d(3, 4, 3))) == []
