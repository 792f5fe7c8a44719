"""Control sets: the same images through a lossy encoder and back. What a score says of them is the encoding's doing alone."""

import re
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from common.cli.errors import UserError
from common.data.decoding import decode
from common.data.listing import File, Items

ENCODERS = {"jpeg": "JPEG", "webp": "WEBP"}


def parse_encoding(text: str) -> tuple[str, int]:
    """ "jpeg75" -> ("JPEG", 75)."""
    found = re.fullmatch(r"([a-z]+)(\d{1,3})", text)
    if not found or found[1] not in ENCODERS or not 1 <= int(found[2]) <= 100:
        raise UserError(f"encode must be jpegQ or webpQ with Q in [1, 100], got {text!r}")
    return ENCODERS[found[1]], int(found[2])


def re_encoded(items: Items, encoding: str) -> UInt8[np.ndarray, "images rows cols 3"]:
    """Images of one size, encoded in memory at that quality with PIL's other settings (JPEG: 4:2:0 chroma) and decoded again."""
    encoder, quality = parse_encoding(encoding)
    return np.stack([_there_and_back(item, encoder, quality) for item in items])


def _there_and_back(item: np.ndarray | File, encoder: str, quality: int) -> np.ndarray:
    buffer = BytesIO()
    image = Image.fromarray(item) if isinstance(item, np.ndarray) else decode(item)
    image.save(buffer, encoder, quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
