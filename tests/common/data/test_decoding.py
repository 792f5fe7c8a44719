"""Every form of an image file gives the 8-bit RGB pixels that a viewer shows."""

import numpy as np
import pytest
from PIL import Image

from common.cli.errors import UserError
from common.data.decoding import decode

RNG = np.random.default_rng(0)


def pixels(path) -> np.ndarray:
    image = decode(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("end", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path, end):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(8, axis=0)
    Image.fromarray(ramp).save(tmp_path / f"ramp.{end}")
    assert np.array_equal(pixels(tmp_path / f"ramp.{end}"), np.arange(256)[None, :, None].repeat(8, 0).repeat(3, 2))


def test_grey_of_twelve_bits_is_scaled_by_the_largest_value_that_the_file_states(tmp_path):
    values = np.array([0, 1365, 2730, 4095], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n4 1\n4095\n" + values.tobytes())
    assert pixels(tmp_path / "a.pgm")[0].tolist() == [[v] * 3 for v in (0, 85, 170, 255)]


@pytest.mark.parametrize("kind, said", [("f4", "float values"), ("i4", "32-bit integers")])
def test_what_has_no_eight_bit_reading_is_refused_by_name(tmp_path, kind, said):
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "deep.tif")
    with pytest.raises(UserError, match=f"^{tmp_path}/deep.tif has {said}, expected 8 bits a channel or 16-bit grey"):
        decode(tmp_path / "deep.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("end", ["png", "webp", "tif"])
def test_a_turned_image_is_set_upright(tmp_path, orientation, end):
    stored = RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    turned = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1), 6: np.rot90(stored, -1),
        7: stored.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(stored),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{end}", exif=exif, **({"lossless": True} if end == "webp" else {}))
    assert np.array_equal(pixels(tmp_path / f"a.{end}"), turned[orientation])


def test_a_damaged_exif_block_leaves_the_pixels_as_they_are(tmp_path):
    stored = RNG.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header")
    assert np.array_equal(pixels(tmp_path / "a.png"), stored)


@pytest.mark.parametrize("end", ["png", "webp", "tif"])
def test_what_is_transparent_is_white_whatever_it_hides(tmp_path, end):
    hidden = RNG.integers(0, 256, (1, 3, 4), dtype=np.uint8)
    hidden[..., 3] = (0, 255, 51)
    how = {"lossless": True, "exact": True} if end == "webp" else {}
    Image.fromarray(hidden).save(tmp_path / f"a.{end}", **how)
    shown = pixels(tmp_path / f"a.{end}")[0].astype(int)
    colour = hidden[0, :, :3].astype(int)
    assert shown[0].tolist() == [255] * 3 and shown[1].tolist() == colour[1].tolist()
    assert np.abs(shown[2] - (0.2 * colour[2] + 0.8 * 255)).max() <= 1


def test_a_transparent_entry_of_a_palette_and_a_transparent_grey_are_white_too(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "l.png", transparency=7)
    assert pixels(tmp_path / "p.png")[0].tolist() == [[255] * 3, [40, 50, 60]]
    assert pixels(tmp_path / "p.gif")[0].tolist() == [[255] * 3, [40, 50, 60]]
    assert pixels(tmp_path / "l.png")[0].tolist() == [[255] * 3, [9] * 3]


def test_a_file_that_is_gone_empty_cut_or_no_image_is_named(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    for name in ("nothing.png", "link.png"):
        with pytest.raises(UserError, match=f"^{tmp_path}/{name} is gone, or a link to what is gone$"):
            decode(tmp_path / name)
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    contents = {
        "empty.png": b"",
        "cut.png": (tmp_path / "whole.png").read_bytes()[:-900],
        "page.png": b"%PDF-1.4 %%EOF",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"^{tmp_path}/{name} does not decode as an image \("):
            decode(tmp_path / name)


def test_of_several_frames_the_first_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]
