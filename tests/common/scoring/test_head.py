"""Which layer is taken for the head, and which networks are refused: by small networks whose answer is known."""

import pytest
import torch
from torch import nn

from common.cli.errors import UserError
from common.scoring.foreign import Foreign

STATS = ((0.5,) * 3, (0.25,) * 3)


class Net(nn.Module):
    """A map of 6 channels, and behind it what `end` makes of it with its linear layers `a` and `b`."""

    def __init__(self, end, conv=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.a, self.b = (nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3)) if conv else (nn.Linear(6, 4), nn.Linear(6, 4))
        self.end = end

    def forward(self, x):
        return self.end(self, self.stem(x).relu())


def pooled(x):
    return x.mean((2, 3))


def tokens(x):
    return x.flatten(2).movedim(1, 2)


READ = {
    "vector": (lambda net, x: net.a(pooled(x)), "none"),
    "tokens, averaged behind the head": (lambda net, x: net.a(tokens(x)).mean(1), "mean over locations"),
    "channels last": (lambda net, x: net.a(x.movedim(1, -1)).mean((1, 2)), "mean over locations"),
    "class token": (lambda net, x: net.a(tokens(x))[:, 0], "first token"),
    "without the class token": (lambda net, x: net.a(tokens(x))[:, 1:].mean(1), "mean over all tokens but the first"),
    "last token": (lambda net, x: net.a(tokens(x))[:, -1], "last token"),
    "a norm between": (lambda net, x: net.a(nn.functional.layer_norm(pooled(x), (6,))), "none"),
    "a second layer that is not its answer": (lambda net, x: (net.b(pooled(x)), net.a(pooled(x)))[1], "none"),
    "a dictionary": (lambda net, x: {"aux": net.b(pooled(x)).relu(), "logits": net.a(pooled(x))}, "none"),
}


@pytest.mark.parametrize("name", READ)
def test_the_head_and_its_pooling_are_found_and_logits_are_the_networks(name):
    torch.manual_seed(0)
    end, pool = READ[name]
    net = Net(end).eval()
    made = Foreign(net, "net", 4, 8, STATS)
    images = torch.rand(5, 3, 8, 8)
    own = net((images - 0.5) / 0.25)
    own = own["logits"] if isinstance(own, dict) else own
    assert (made.reading.head, made.reading.pool) == ("a", pool)
    assert torch.allclose(made(images), own, atol=1e-5) and made.penultimate(images).shape == (5, 6)
    assert torch.equal(made.head.weight, net.a.weight) and torch.equal(made.head.bias, net.a.bias)


def test_a_convolution_of_1_x_1_is_a_head_and_others_are_not():
    torch.manual_seed(0)
    net = Net(lambda net, x: pooled(net.a(x)), conv=True).eval()
    images = torch.rand(5, 3, 8, 8)
    assert torch.allclose(Foreign(net, "net", 4, 8, STATS)(images), net((images - 0.5) / 0.25), atol=1e-5)
    with pytest.raises(UserError, match="its last layer, b, is a convolution of 3 x 3"):
        Foreign(Net(lambda net, x: pooled(net.b(x)), conv=True), "net", 4, 8, STATS)
    with pytest.raises(UserError, match="its last layer, a, is a convolution, and its outputs are not"):
        Foreign(Net(lambda net, x: pooled(net.a(x).relu()), conv=True), "net", 4, 8, STATS)


def test_a_softmax_behind_the_head_leaves_its_logits():
    net = Net(lambda net, x: net.a(pooled(x)).softmax(1))
    images = torch.rand(5, 3, 8, 8)
    made = Foreign(net, "net", 4, 8, STATS)
    assert made.reading.after == "softmax" and made(images).min() < 0
    assert torch.allclose(made(images).softmax(1), net((images - 0.5) / 0.25), atol=1e-5)


class Cosine(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(nn.functional.normalize(x), self.weight, self.bias)


def test_what_cannot_be_read_is_refused_with_the_reason():
    refused = {
        r"more than one layer makes its 4 outputs \(a, b\)": lambda net, x: (net.a(pooled(x)) + net.b(pooled(x))) / 2,
        "its outputs are not those of a: something changes them": lambda net, x: 2 * net.a(pooled(x)),
        "or that layer is used twice": lambda net, x: net.a(net.a(pooled(x)).repeat(1, 2)[:, :6]),
        "answers with NaN": lambda net, x: net.a(pooled(x)) / 0 * 0,
        "cannot pass images of 3 x 8 x 8": lambda net, x: net.a(x),
    }
    for reason, end in refused.items():
        with pytest.raises(UserError, match=reason):
            Foreign(Net(end), "net", 4, 8, STATS)
    plain = Net(READ["vector"][0])
    with pytest.raises(UserError, match="classes names 5, and a, the last layer of Net, has 4 outputs"):
        Foreign(plain, "net", 5, 8, STATS)
    with pytest.raises(UserError, match="no linear layer 'fc' in its pass; it has: stem, a"):
        Foreign(plain, "net", 4, 8, STATS, "fc")
    plain.a = Cosine(6, 4)
    with pytest.raises(UserError, match="its last layer, a, is more than W h \\+ b"):
        Foreign(plain, "net", 4, 8, STATS)
