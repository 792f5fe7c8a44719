"""Dilation in the place of stride: the finer map agrees with the old one at every old location, and a checkpoint carries it."""

import pytest
import torch

from common import checkpoint
from common.backbones import build
from common.backbones.output_stride import set_output_stride
from common.cli.errors import UserError


def network(name: str, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(name, 5, **options).double().eval()


@pytest.mark.parametrize(
    ("name", "own", "strides"),
    [("resnet8", 8, (4, 2)), ("resnet18", 8, (4,)), ("resnet20", 4, (2, 1)), ("resnet50", 32, (16,))],
)
def test_the_finer_map_is_the_old_one_at_the_old_locations(name, own, strides):
    model, images = (
        network(name),
        torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )
    with torch.no_grad():
        coarse, digest = model.feature_map(images), checkpoint.weights_digest(model)
        for stride in strides:
            finer = network(name, output_stride=stride)
            fine = finer.feature_map(images)
            step = own // stride
            assert fine.shape == (1, model.channels, 32 // stride, 32 // stride)
            apart = (
                (fine[:, :, ::step, ::step] - coarse).abs().max(),
                (fine[:, :, 1::step, ::step] - coarse).abs().max(),
            )
            assert apart[0] < 1e-9 * coarse.abs().max() and apart[1] > 1e-3 * coarse.std()
            assert finer.state_dict().keys() == model.state_dict().keys() and checkpoint.weights_digest(finer) != digest


@pytest.mark.parametrize("name", ["bit-r50x1", "timm:resnet10t"])
def test_timms_networks_take_their_own_option_and_keep_their_weights(name):
    model, images = network(name), torch.rand(1, 3, 64, 64, dtype=torch.float64)
    kept = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    set_output_stride(model, 16)
    with torch.no_grad():
        assert model.feature_map(images).shape == (1, model.channels, 4, 4)
    assert all(torch.equal(tensor, kept[key]) for key, tensor in model.state_dict().items()) and not model.training


def test_a_checkpoint_carries_its_output_stride(tmp_path):
    model = build("resnet8", 3, output_stride=4).eval()
    checkpoint.save(tmp_path / "c.pt", model, recipe={})
    again, _ = checkpoint.load(tmp_path / "c.pt")
    images = torch.rand(1, 3, 32, 32)
    assert (
        again.output_stride == 4
        and torch.equal(again.feature_map(images), model.feature_map(images))
        and again.feature_map(images).shape[-1] == 8
    )


@pytest.mark.parametrize(("name", "stride", "said"), [
    ("resnet8", 16, r"output_stride must be the network's own, 8, divided by a power of two, got 16"),
    ("resnet8", 3, "got 3"), ("resnet8", 0, "got 0"), ("densenet100-12", 2, "averages neighbours"), ("timm:resnet10t", 7, "output_stride of timm:resnet10t must be 8, 16 or 32"), ("timm:mixer_s32_224", 16, "timm:mixer_s32_224 cannot have output_stride 16"),
])  # fmt: skip
def test_a_stride_the_network_cannot_have_is_refused(name, stride, said):
    with pytest.raises(UserError, match=said):
        build(name, 3, output_stride=stride)
