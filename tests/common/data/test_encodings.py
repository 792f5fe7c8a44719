from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from common.cli.errors import UserError
from common.data.encodings import parse_encoding, re_encoded

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("text, encoder, quality", [("jpeg75", "JPEG", 75), ("webp90", "WEBP", 90)])
def test_the_pixels_are_those_of_a_file_written_and_read(text, encoder, quality, tmp_path):
    got = re_encoded(IMAGES, text)
    for k, image in enumerate(IMAGES):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, encoder, quality=quality)
        (tmp_path / "x").write_bytes(buffer.getvalue())
        assert np.array_equal(got[k], np.asarray(Image.open(tmp_path / "x")))
    assert not np.array_equal(got, IMAGES)


def test_lower_quality_changes_more():
    changes = [np.abs(re_encoded(IMAGES, f"jpeg{quality}").astype(int) - IMAGES).mean() for quality in (20, 75, 98)]
    assert changes[0] > changes[1] > changes[2] > 0


@pytest.mark.parametrize("text", ["png90", "jpeg", "jpeg0", "jpeg101", "jpeg7.5", "75", "xjpeg75"])
def test_other_encodings_are_refused(text):
    with pytest.raises(UserError, match=r"^encode must be jpegQ or webpQ with Q in \[1, 100\], got "):
        parse_encoding(text)
