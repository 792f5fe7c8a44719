import pytest
import torch

from common.backbones import BACKBONES, build
from common.cli.errors import UserError

MAPS = {
    "resnet8": (48, 6),
    "resnet18": (32, 4),
    "resnet34": (32, 4),
    "wrn28-10": (32, 8),
    "wrn40-2": (32, 8),
    "resnet20": (32, 8),
    "resnet32": (32, 8),
    "resnet44": (32, 8),
    "resnet56": (32, 8),
    "densenet100-12": (32, 8),
    "resnet50": (64, 2),
    "bit-r50x1": (64, 2),
    "timm:resnet10t": (64, 2),
    "torchvision:mobilenet_v2": (64, 2),
    "torchvision:densenet121": (64, 2),
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    made = {}
    return lambda name: made.setdefault(name, build(name, 5).double().eval())


def test_every_network_of_the_table_is_tested():
    assert set(BACKBONES) == {name for name in MAPS if ":" not in name}


@pytest.mark.parametrize("name", MAPS)
def test_mean_of_local_logits_is_the_image_logits(networks, name):
    size, side = MAPS[name]
    model, images = networks(name), torch.rand(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.bias)
        feature_map = model.feature_map(images)
        assert feature_map.shape == (1, model.channels, side, side)
        assert torch.allclose(model.local_logits(feature_map).mean((2, 3)), model(images), atol=1e-10)


@pytest.mark.parametrize("name, channels, side", [("resnet34", 512, 4), ("wrn28-10", 640, 8)])
def test_the_papers_maps_have_the_papers_sizes(networks, name, channels, side):
    model = networks(name)
    with torch.no_grad():
        assert model.feature_map(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape[1:] == (channels, side, side)


@pytest.mark.parametrize(
    "name, blocks",
    [
        ("resnet8", 3),
        ("resnet18", 8),
        ("resnet34", 16),
        ("wrn28-10", 12),
        ("resnet50", 16),
        ("bit-r50x1", 16),
        ("wrn40-2", 18),
        ("resnet20", 9),
        ("resnet32", 15),
        ("resnet44", 21),
        ("resnet56", 27),
        ("densenet100-12", 3),
        ("torchvision:densenet121", 0),
    ],  # fmt: skip
)
def test_every_residual_block_is_listed(networks, name, blocks):
    assert len(networks(name).blocks()) == blocks


def test_feature_maps_come_after_the_last_relu(networks):
    with torch.no_grad():
        for name in (
            "resnet8",
            "resnet18",
            "wrn28-10",
            "bit-r50x1",
            "resnet20",
            "densenet100-12",
            "torchvision:densenet121",
        ):
            assert networks(name).feature_map(torch.rand(1, 3, 32, 32, dtype=torch.float64)).min() >= 0


def test_images_are_normalised_by_the_first_layer():
    model = build("resnet8", 3).eval()
    images = torch.rand(2, 3, 48, 48)
    expected = model.body((images - 0.5) / 0.5)
    assert torch.equal(model.feature_map(images), expected)


def test_bf16_runs_the_body_only():
    model = build("resnet8", 3).eval()
    images = torch.rand(2, 3, 48, 48)
    exact = model(images)
    model.bf16 = True
    rough = model(images)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact) and torch.allclose(rough, exact, atol=0.05)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("resnet9", 10), "unknown backbone 'resnet9'; known: resnet8, resnet18"),
        (("timm:nothing", 10), "unknown timm network 'nothing'"),
        (("torchvision:nothing", 10), "unknown torchvision network 'nothing'"),
        (("resnet8", 1), "classes must be >= 2, got 1"),
    ],
)
def test_bad_input_is_named(arguments, said):
    with pytest.raises(UserError, match=said):
        build(*arguments)


@pytest.mark.parametrize("name", ["torchvision:inception_v3", "timm:vit_tiny_patch16_224", "timm:mixer_s32_224"])
def test_a_network_without_a_map_is_one_line(name):
    with pytest.raises(UserError, match=f"{name} .*64 px.*not trained here"):
        build(name, 10, image_size=64)
