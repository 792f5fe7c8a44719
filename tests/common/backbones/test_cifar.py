"""The networks of public CIFAR weights against their forward passes, written once more from their public code, step by step on a state dict."""

import pytest
import torch
import torch.nn.functional as F

from common.backbones.cifar import CifarResNet, DenseNetBC, PaddedBlock


def lively(net):
    """Norms that are not the identity, in eval mode and double precision."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and ("bn" in name):
            tensor.uniform_(0.5, 1.5)
    return net.double().eval()


def norm(x, state, name):
    words = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{word}"] for word in words))


def plain_resnet(x, s, depth):
    """akamaster's: LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4)))."""
    x = F.relu(norm(F.conv2d(x, s["conv1.weight"], padding=1), s, "bn1"))
    for stage, planes in ((1, 16), (2, 32), (3, 64)):
        for block in range((depth - 2) // 6):
            at, half = f"layer{stage}.{block}", stage > 1 and block == 0
            out = F.relu(norm(F.conv2d(x, s[f"{at}.conv1.weight"], stride=2 if half else 1, padding=1), s, f"{at}.bn1"))
            out = norm(F.conv2d(out, s[f"{at}.conv2.weight"], padding=1), s, f"{at}.bn2")
            x = F.relu(out + (F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4)) if half else x))
    return x


def plain_densenet(x, s, layers):
    """DICE's models/densenet.py: bottleneck blocks, reduction 0.5."""
    x = F.conv2d(x, s["conv1.weight"], padding=1)
    for block in (1, 2, 3):
        for layer in range(layers):
            at = f"block{block}.layer.{layer}"
            out = F.conv2d(F.relu(norm(x, s, f"{at}.bn1")), s[f"{at}.conv1.weight"])
            x = torch.cat([x, F.conv2d(F.relu(norm(out, s, f"{at}.bn2")), s[f"{at}.conv2.weight"], padding=1)], 1)
        if block < 3:
            x = F.avg_pool2d(F.conv2d(F.relu(norm(x, s, f"trans{block}.bn1")), s[f"trans{block}.conv1.weight"]), 2)
    return F.relu(norm(x, s, "bn1"))


@pytest.mark.parametrize(("net", "plain", "count"), [
    (lambda: CifarResNet(20), lambda x, s: plain_resnet(x, s, 20), 20),
    (lambda: CifarResNet(32), lambda x, s: plain_resnet(x, s, 32), 32),
    (lambda: DenseNetBC(40, 12), lambda x, s: plain_densenet(x, s, 6), 40),
])  # fmt: skip
def test_a_body_is_its_public_codes_forward_pass(net, plain, count):
    torch.manual_seed(0)
    net, images = lively(net()), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(net(images), plain(images, net.state_dict()), atol=1e-9)
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in net.modules())
    assert layers + 1 == count  # with the head: what the name counts


def test_the_densenet_of_dices_paper_has_its_size():
    net = DenseNetBC()
    assert sum(p.numel() for p in net.parameters()) + 342 * 10 + 10 == 769_162  # DenseNet-BC-100-12: 0.8 M
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 342, 8, 8)


def test_new_channels_of_a_shortcut_are_zeros_on_both_sides():
    block = PaddedBlock(4, 8, 2).eval()
    torch.nn.init.zeros_(block.bn2.weight)  # what remains is the shortcut
    images = torch.rand(1, 4, 6, 6)
    out = block(images)
    assert torch.equal(out[:, 2:6], images[:, :, ::2, ::2]) and not out[:, :2].any() and not out[:, 6:].any()
