"""From a file to an RGB image of 8 bits a channel, by one rule wherever images are read: as a viewer shows it.

Upright by its EXIF orientation; transparency over white; 16-bit grey scaled to 8 bits; grey, palette and CMYK become RGB; of several frames
or pages the first. What has no such reading (float, 32-bit integers) is refused.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from common.cli.errors import UserError
from common.cli.files import read_plain
from common.data.listing import File, formats

RULE = 2  # raised when a file gives other pixels: part of a streamed set's digest
DEEP = {"F": "float values", "I": "32-bit integers"}


def read(file: File) -> bytes:
    """The file's bytes. Raises UserError naming it where it cannot be read."""
    try:
        return read_plain(file) if isinstance(file, Path) else file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file} is gone, or a link to what is gone") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None


def decode(file: File) -> Image.Image:
    """The image as RGB. Raises UserError naming the file where it does not decode to its last row, or has no 8-bit reading."""
    content = read(file)
    try:
        with Image.open(BytesIO(content), formats=formats()) as image:
            return as_rgb(image)
    except UserError as error:
        raise UserError(f"{file} {error}") from None
    except Exception as error:  # by format OSError, SyntaxError, ValueError, DecompressionBombError, struct.error, ...
        raise UserError(f"{file} does not decode as an image ({type(error).__name__})") from None


def as_rgb(image: Image.Image) -> Image.Image:
    """Raises UserError for a mode without an 8-bit reading, and what Pillow raises where a row is missing."""
    name = image.format
    image.load()
    image = _upright(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and name in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.uint32)  # 0 to 65,535; 65,535 / 255 = 257
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in DEEP:
        raise UserError(
            f"has {DEEP[image.mode]}, expected 8 bits a channel or 16-bit grey: scale it as its values mean"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing of the pixels, which are whole
        return image
