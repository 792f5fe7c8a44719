import numpy as np
import pytest
import torch

from common.backbones import BACKBONES, build
from common.backbones.weights import BIT
from common.cli.errors import UserError

MAPS = {
    "resnet8": (48, 6),
    "resnet18": (32, 4),
    "resnet34": (32, 4),
    "wrn28-10": (32, 8),
    "resnet50": (64, 2),
    "bit-r50x1": (64, 2),
    "timm:resnet10t": (64, 2),
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    made = {}
    return lambda name: made.setdefault(name, build(name, 5).double().eval())


def test_every_network_of_the_table_is_tested():
    assert set(BACKBONES) == {name for name in MAPS if not name.startswith("timm:")}


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
    [("resnet8", 3), ("resnet18", 8), ("resnet34", 16), ("wrn28-10", 12), ("resnet50", 16), ("bit-r50x1", 16)],
)
def test_every_residual_block_is_listed(networks, name, blocks):
    assert len(networks(name).blocks()) == blocks


def test_feature_maps_come_after_the_last_relu(networks):
    with torch.no_grad():
        for name in ("resnet8", "resnet18", "wrn28-10", "bit-r50x1"):
            assert networks(name).feature_map(torch.rand(1, 3, 64, 64, dtype=torch.float64)).min() >= 0


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


def google_file(path, net):
    """A file in the form of Google's release, filled from a network of the same architecture."""
    state, arrays = net.state_dict(), {}
    hwio = lambda name: state[name].numpy().transpose(2, 3, 1, 0)  # noqa: E731
    arrays["resnet/root_block/standardized_conv2d/kernel"] = hwio("stem.conv.weight")
    arrays["resnet/group_norm/gamma"], arrays["resnet/group_norm/beta"] = (
        state["norm.weight"].numpy(),
        state["norm.bias"].numpy(),
    )
    for s, stage in enumerate(net.stages):
        for b, block in enumerate(stage.blocks):
            cname = f"resnet/block{s + 1}/unit{b + 1:02d}"
            for i, letter in enumerate("abc", 1):
                arrays[f"{cname}/{letter}/standardized_conv2d/kernel"] = hwio(f"stages.{s}.blocks.{b}.conv{i}.weight")
                for word, kind in (("gamma", "weight"), ("beta", "bias")):
                    arrays[f"{cname}/{letter}/group_norm/{word}"] = state[
                        f"stages.{s}.blocks.{b}.norm{i}.{kind}"
                    ].numpy()
            if block.downsample is not None:
                arrays[f"{cname}/a/proj/standardized_conv2d/kernel"] = hwio(
                    f"stages.{s}.blocks.{b}.downsample.conv.weight"
                )
    np.savez(path, **arrays)


def test_googles_bit_file_is_read(tmp_path):
    import timm

    torch.manual_seed(1)
    net = timm.create_model(BIT, num_classes=0)
    for name, tensor in net.state_dict().items():
        if "norm" in name:
            tensor.uniform_(0.5, 1.5)
    google_file(tmp_path / "bit.npz", net)
    model = build("bit-r50x1", 3, weights=tmp_path / "bit.npz")
    for name, tensor in net.state_dict().items():
        assert torch.equal(model.body.net.state_dict()[name], tensor), name


def test_a_state_dict_of_the_body_is_read_and_a_foreign_one_is_refused(tmp_path):
    torch.manual_seed(2)
    source = build("resnet8", 7)
    torch.save(source.body.state_dict(), tmp_path / "body.pt")
    model = build("resnet8", 3, weights=tmp_path / "body.pt")
    assert torch.equal(model.body.stem[0].weight, source.body.stem[0].weight)
    with pytest.raises(UserError, match="does not fit resnet18: .* tensors missing"):
        build("resnet18", 3, weights=tmp_path / "body.pt")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("resnet9", 10), "unknown backbone 'resnet9'; known: resnet8, resnet18"),
        (("timm:nothing", 10), "unknown timm network 'nothing'"),
        (("resnet8", 1), "classes must be >= 2, got 1"),
    ],
)
def test_bad_input_is_named(arguments, said):
    with pytest.raises(UserError, match=said):
        build(*arguments)


def test_missing_or_unsafe_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="no weights at .*gone.pt"):
        build("resnet8", 3, weights=tmp_path / "gone.pt")
    (tmp_path / "junk.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="junk.pt is not a weight file that can be read safely"):
        build("resnet8", 3, weights=tmp_path / "junk.pt")
    with pytest.raises(UserError, match="no hub has weights for resnet8"):
        build("resnet8", 3, weights="hub")
