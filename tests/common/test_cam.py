"""Class activation maps by hand (DFB Eq. 1) and what they keep: place under a flip, range, class."""

import dataclasses

import pytest
import torch
from torch import nn

from common.backbones.classifier import Classifier
from common.cam import CamRecipe, blur, class_attention, class_map, normalise_map, resize_maps

FEATURES = torch.tensor([[[[1.0, 2], [0, 3]], [[2, 0], [1, 4]]]], dtype=torch.float64)
ROW = torch.tensor([[1, -0.5]], dtype=torch.float64)
MAP = class_map(FEATURES, ROW)
SIXTEEN = [[0, 0.25, 0.75, 1], [0, 0.21875, 0.65625, 0.875], [0, 0.15625, 0.46875, 0.625], [0, 0.125, 0.375, 0.5]]


def rounded(maps):
    return [round(v, 6) for v in maps.flatten().tolist()]


def test_map_by_hand():
    assert MAP.tolist() == [[[0, 2], [-0.5, 1]]]


@pytest.mark.parametrize(
    ("maps", "how", "eps", "expected"),
    [
        (MAP.relu(), "max", 0.0, [0, 1, 0, 0.5]),
        (MAP.relu(), "max", 1e-5, [0, 0.999995, 0, 0.499998]),
        (MAP, "minmax", 0.0, [0.2, 1, 0, 0.6]),
        (
            class_map(FEATURES, ROW, torch.tensor([0.25], dtype=torch.float64)).relu(),
            "max",
            0.0,
            [0.111111, 1, 0, 0.555556],
        ),
        (class_map(FEATURES, ROW, torch.tensor([0.25], dtype=torch.float64)), "minmax", 0.0, [0.2, 1, 0, 0.6]),
    ],
)
def test_normalised_by_hand(maps, how, eps, expected):
    assert rounded(normalise_map(maps, how, eps)) == expected


def test_upsampled_by_hand():
    wide = resize_maps(MAP.relu() / 2, (4, 4))
    assert wide[0].tolist() == SIXTEEN and (wide >= 0.5).double().mean() == 0.375


def test_normalising_before_or_after_upsampling_differs():
    row = torch.tensor([[[0, 1, 0.3]]], dtype=torch.float64)
    wide = resize_maps(row, (1, 6))
    assert rounded(wide) == [0, 0.25, 0.75, 0.825, 0.475, 0.3]
    assert rounded(normalise_map(wide, "max", 0.0)) == [0, 0.30303, 0.909091, 1, 0.575758, 0.363636]


@pytest.mark.parametrize("how", ["max", "minmax"])
def test_a_map_without_a_peak_is_all_zero(how):
    assert not normalise_map(torch.zeros(2, 3, 3), how, 0.0).any()
    assert not normalise_map(torch.full((1, 3, 3), -2.0), how, 1e-5).any()


def test_blur_keeps_a_constant_and_the_mean_of_a_distant_spike():
    assert torch.allclose(blur(torch.full((1, 9, 9), 0.7), 2.0), torch.tensor(0.7))
    spike = torch.zeros(1, 21, 21, dtype=torch.float64)
    spike[0, 10, 10] = 1
    got = blur(spike, 1.0)
    assert (
        got.sum().item() == pytest.approx(1)
        and got[0, 10, 10] == got.max()
        and got[0, 10, 11] / got[0, 10, 10] == pytest.approx(0.606531, abs=1e-6)
    )


def test_blur_is_the_convolution_written_out():
    """Two passes with exp(-x^2 / 2 sigma^2), cut at 4 sigma and summing to 1, the border repeated outwards."""
    maps, sigma = torch.rand(3, 11, 17, dtype=torch.float64), 1.7
    reach = round(4 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = nn.functional.pad(maps.unsqueeze(1), (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    expected = nn.functional.conv2d(rows, kernel.view(1, 1, 1, -1)).squeeze(1)
    torch.testing.assert_close(blur(maps, sigma), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(blur(maps.float(), sigma), expected.float(), rtol=0, atol=1e-6)


class Channels(nn.Module):
    """A body whose map is the image's own channels, two pixels to the right (so that left and right differ), averaged over 4 x 4 pixels."""

    def forward(self, images):
        return nn.functional.avg_pool2d(images.roll(2, dims=3), 4)


def colour_network() -> Classifier:
    """Class k looks at colour k."""
    model = Classifier("colours", Channels(), 3, 3, lambda body: [])
    with torch.no_grad():
        model.normalise.mean.zero_(), model.normalise.std.fill_(1)
        model.head.weight.copy_(torch.eye(3)), model.head.bias.zero_()
    return model.eval()


def two_blobs():
    """Red at the top left, a larger blue blob at the bottom right."""
    images = torch.zeros(1, 3, 32, 32)
    images[0, 0, 2:12, 3:13] = 1
    images[0, 2, 16:30, 14:30] = 1
    return images


def test_attention_lies_on_the_object_of_its_class():
    images = two_blobs()
    for label, channel in ((0, 0), (2, 2)):
        attention, predicted = class_attention(colour_network(), images, torch.tensor([label]))
        truth, found = images[0, channel] > 0, attention[0] >= 0.5
        assert (truth & found).sum() / (truth | found).sum() > 0.6 and predicted.tolist() == [2]
        assert attention.min() >= 0 and attention.max() <= 1


def test_the_predicted_class_replaces_the_label():
    recipe = CamRecipe(cam_class="predicted")
    images = two_blobs()
    got, _ = class_attention(colour_network(), images, torch.tensor([0]), recipe)
    assert torch.equal(got, class_attention(colour_network(), images, torch.tensor([2]))[0])


@pytest.mark.parametrize("order", ["upsample-first", "normalise-first"])
def test_a_mirrored_image_has_the_mirrored_attention(order):
    images, recipe = two_blobs(), CamRecipe(cam_order=order)
    straight, _ = class_attention(colour_network(), images, torch.tensor([0]), recipe)
    mirrored, _ = class_attention(colour_network(), images.flip(3), torch.tensor([0]), recipe)
    assert torch.allclose(mirrored.flip(2), straight, atol=1e-5)
    assert not torch.allclose(mirrored, straight, atol=0.1)


def test_each_image_of_a_batch_has_the_map_it_has_alone():
    images = torch.cat([two_blobs(), two_blobs().flip(2), two_blobs().flip(3)])
    labels = torch.tensor([0, 2, 0])
    together, _ = class_attention(colour_network(), images, labels)
    alone = torch.cat([class_attention(colour_network(), images[i : i + 1], labels[i : i + 1])[0] for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({"cam_relu": False}, [1, -0.3, -0.3]),
        ({"cam_norm": "minmax"}, [1, 0.1, -0.1]),  # positive everywhere, so that ReLU leaves a minimum to subtract
        ({"cam_scales": (1.0,)}, [1, -0.3, -0.3]),
        ({"cam_flip": False}, [1, -0.3, -0.3]),
        ({"cam_blur": 2.0}, [1, -0.3, -0.3]),
        ({"cam_bias": True}, [1, -0.3, -0.3]),
        ({"cam_order": "normalise-first"}, [1, -0.3, -0.3]),
        ({"cam_eps": 0.5}, [1, -0.3, -0.3]),
    ],
)
def test_each_switch_changes_the_map(change, row):
    model, images = colour_network(), two_blobs() + 0.2
    with torch.no_grad():
        model.head.weight[0] = torch.tensor(row)
        model.head.bias[0] = 0.2
    default, _ = class_attention(model, images, torch.tensor([0]))
    changed, _ = class_attention(model, images, torch.tensor([0]), dataclasses.replace(CamRecipe(), **change))
    assert (changed - default).abs().max() > 1e-3 and 0 <= changed.min() and changed.max() <= 1


class Strided(nn.Module):
    """Location i looks at pixel 4 i, as behind two padded 3x3 convolutions of stride 2."""

    def forward(self, images):
        return images[:, :, ::4, ::4]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_half_stride_shift_puts_each_location_where_it_looks(flip, scale):
    model = colour_network()
    model.body = Strided()
    ramp = (torch.arange(32.0) / 64)[:, None] + torch.arange(32.0) / 128
    images, labels = ramp.expand(1, 3, 32, 32), torch.tensor([1])

    def at(how):
        return class_attention(model, images, labels, CamRecipe(cam_scales=(scale,), cam_flip=flip, cam_shift=how))[0][
            0
        ]

    inner = slice(8, 24)
    true = ramp[inner, inner] / ramp[inner, inner].mean()
    apart = {
        how: (at(how)[inner, inner] / at(how)[inner, inner].mean() - true).abs().max()
        for how in ("none", "half-stride")
    }
    assert apart["half-stride"] < 2e-3 < 1e-2 < apart["none"]
