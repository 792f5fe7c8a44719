"""Networks of timm and torchvision: penultimate features whose logits are the network's own; a copy; threads."""

import threading

import pytest
import timm
import torch
from torch import nn

from common.cli.errors import UserError
from common.scoring.foreign import Foreign, replace_weights

STATS = ((0.5,) * 3, (0.25,) * 3)
SMALL = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2}
FAMILIES = {
    "resnet10t": (32, {}),
    "resnetv2_50x1_bit": (32, {}),
    "densenet121": (32, {}),
    "regnety_002": (32, {}),
    "efficientnet_b0": (32, {}),
    "mobilenetv3_small_050": (32, {}),
    "convnext_atto": (32, {}),
    "vit_tiny_patch16_224": (32, SMALL),
    "deit_tiny_patch16_224": (32, SMALL | {"global_pool": "avg"}),
    "swin_tiny_patch4_window7_224": (56, {"img_size": 56, "depths": (1, 1), "num_heads": (2, 2), "embed_dim": 24}),
    "mixer_s32_224": (64, {"img_size": 64}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_networks_own(name):
    torch.manual_seed(0)
    size, how = FAMILIES[name]
    net = timm.create_model(name, num_classes=37, **how).eval()
    images = torch.rand(3, 3, size, size)
    made = Foreign(net, name, 37, size, STATS)
    with torch.no_grad():
        own, ours, h = net((images - 0.5) / 0.25), made(images), made.penultimate(images)
    assert torch.allclose(ours, own, atol=1e-5) and torch.allclose(made.head(h), own, atol=1e-5)
    assert h.shape == (3, made.channels) and h.std() > 0


def test_squeezenet_and_two_heads_are_refused_by_name():
    from torchvision.models import squeezenet1_1

    with pytest.raises(UserError, match=r"SqueezeNet cannot be read: its last layer, classifier.1, is a convolution"):
        Foreign(squeezenet1_1(num_classes=37), "squeezenet", 37, 64, STATS)
    two = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=37, **SMALL)
    with pytest.raises(UserError, match=r"more than one layer makes its 37 outputs \(head, head_dist\)"):
        Foreign(two, "deit", 37, 32, STATS)


def vgg():
    features = [nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    head = [nn.Linear(32, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 12), nn.ReLU(True), nn.Linear(12, 4)]
    return nn.Sequential(*features, *head)


def test_of_three_linear_layers_the_last_is_the_head_and_dropout_is_off():
    made = Foreign(vgg().train(), "vgg", 4, 16, STATS)
    images = torch.rand(5, 3, 16, 16)
    assert made.reading.head == "9" and made.channels == 12 and torch.equal(made(images), made(images))


def test_what_becomes_of_the_network_changes_nothing():
    net = vgg()
    made, images = Foreign(net, "vgg", 4, 16, STATS), torch.rand(5, 3, 16, 16)
    before = made(images)
    net[9].weight.data.zero_()
    net.train()
    assert torch.equal(made(images), before) and net.training and not net[9]._forward_pre_hooks


def test_a_network_that_answers_otherwise_later_is_refused():
    made = Foreign(vgg(), "vgg", 4, 16, STATS)
    made.net[9].weight.data.add_(1)
    with pytest.raises(UserError, match="its outputs are not those of 9"):
        made(torch.rand(5, 3, 16, 16))


def test_threads_do_not_see_each_others_features():
    made = Foreign(vgg(), "vgg", 4, 16, STATS)
    images = [torch.rand(5, 3, 16, 16) for _ in range(8)]
    expected, found = [made.penultimate(one) for one in images], [None] * 8

    def work(k):
        for _ in range(20):
            found[k] = made.penultimate(images[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert all(torch.allclose(a, b) for a, b in zip(found, expected))


def test_weights_of_another_network_are_refused_by_tensor():
    weights = vgg().state_dict()
    with pytest.raises(UserError, match=r"9.bias is torch.float64 \(4,\) in the file, torch.float32 \(4,\) in it"):
        replace_weights(vgg(), weights | {"9.bias": weights["9.bias"].double()})
    with pytest.raises(UserError, match="other is torch.float32 .* in the file, nothing in it"):
        replace_weights(vgg(), weights | {"other": weights["9.bias"]})
