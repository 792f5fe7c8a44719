import numpy as np
import pytest
from PIL import Image
from torchvision import transforms as T

from common.cli.errors import UserError
from common.data.transforms import CIFAR, DFB, IMAGENET, Transform

RNG = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(40, 50), (50, 40), (33, 97), (20, 31), (300, 33), (64, 64)])
@pytest.mark.parametrize("ours, short, square", [(CIFAR, 32, 32), (Transform(24, "resize-crop", 28), 28, 24)])
def test_resize_crop_is_torchvisions_resize_and_center_crop(size, ours, short, square):
    image = picture(*size)
    theirs = T.Compose([T.Resize(short), T.CenterCrop(square)])(image)
    assert np.array_equal(np.asarray(ours(image)), np.asarray(theirs))


def test_squeeze_is_torchvisions_resize_to_a_pair():
    image = picture(40, 90)
    assert np.array_equal(np.asarray(DFB(image)), np.asarray(T.Resize((128, 128))(image)))


@pytest.mark.parametrize("ours", [CIFAR, DFB, IMAGENET])
def test_an_image_of_the_exact_size_is_not_resampled(ours):
    image = picture(ours.size_px, ours.size_px)
    assert np.array_equal(np.asarray(ours(image)), np.asarray(image))


def test_via32_loses_what_32_pixels_cannot_hold_whatever_the_size_before():
    ours, image = Transform(64, "via32"), picture(64, 64)
    expected = image.resize((32, 32), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(ours(image)), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "LA"])
def test_every_mode_becomes_rgb(mode):
    assert np.asarray(CIFAR(picture(40, 40).convert("RGB").convert(mode))).shape == (32, 32, 3)


def test_none_refuses_another_size():
    with pytest.raises(UserError, match=r"^an image is 40x32, expected 32x32 \(rule none\)$"):
        Transform(32, "none")(picture(40, 32))


@pytest.mark.parametrize(
    "values, text",
    [
        ({"rule": "stretch"}, "rule must be one of none, resize-crop, squeeze, via32, got 'stretch'"),
        ({"interpolation": "magic"}, "interpolation must be one of nearest, bilinear, bicubic, got 'magic'"),
        ({"size_px": 0}, "size_px must be >= 1, got 0"),
        ({"size_px": 32, "resize_px": 16}, r"resize_px must be >= size_px \(32\), got 16"),
    ],
)
def test_bad_values_are_named(values, text):
    with pytest.raises(UserError, match=f"^{text}$"):
        Transform(**values)


def test_facts_make_the_transform_again():
    assert (
        Transform(**IMAGENET.facts()).facts()
        == IMAGENET.facts()
        == {"size_px": 224, "rule": "resize-crop", "resize_px": 256, "interpolation": "bilinear"}
    )


def test_an_image_that_is_handed_over_is_read_as_a_file_is():
    deep = Image.fromarray(np.full((4, 4), 257 * 9, np.uint16))
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(Transform(4)(deep)).tolist() == np.full((4, 4, 3), 9).tolist()
    assert np.asarray(Transform(4)(clear)).min() == 255
