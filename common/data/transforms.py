"""From a decoded image to the one size a network sees: the same rule for in-distribution and out-of-distribution images."""

from dataclasses import dataclass

from PIL import Image

from common.cli.errors import UserError
from common.data.decoding import as_rgb

RULES = ("none", "resize-crop", "squeeze", "via32")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Transform:
    """How every image, whatever its set, gets to `size_px` x `size_px`. PIL's resampling: antialiased when it shrinks.

    Rules: "none" (must have the size already); "resize-crop" (shorter side to `resize_px`, then the centre); "squeeze" (straight to the
    square, aspect ratio lost); "via32" (shorter side to 32, centre 32 x 32, then up to the square: every set goes through CIFAR's resolution).
    An image that has the exact size already is not resampled, except by "via32", whose point is the detour.
    """

    size_px: int = 32
    rule: str = "resize-crop"
    resize_px: int | None = None  # None = size_px
    interpolation: str = "bilinear"

    def __post_init__(self):
        if self.rule not in RULES:
            raise UserError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}")
        if not self.size_px >= 1:
            raise UserError(f"size_px must be >= 1, got {self.size_px}")
        if not self.short_px >= self.size_px:
            raise UserError(f"resize_px must be >= size_px ({self.size_px}), got {self.resize_px}")

    @property
    def short_px(self) -> int:
        """Length of the shorter side before the centre crop."""
        return self.size_px if self.resize_px is None else self.resize_px

    def __call__(self, image: Image.Image) -> Image.Image:
        """An RGB image of the size. Raises UserError under "none" where the size differs."""
        image = image if image.mode == "RGB" else as_rgb(image)
        square = (self.size_px, self.size_px)
        method = INTERPOLATIONS[self.interpolation]
        if self.rule == "via32":
            return _short_and_centre(image, 32, 32, method).resize(square, method)
        if image.size == square:
            return image
        if self.rule == "none":
            raise UserError(
                f"an image is {image.size[0]}x{image.size[1]}, expected {self.size_px}x{self.size_px} (rule none)"
            )
        if self.rule == "squeeze":
            return image.resize(square, method)
        return _short_and_centre(image, self.short_px, self.size_px, method)

    def facts(self) -> dict:
        """Plain values for provenance."""
        return {
            "size_px": self.size_px,
            "rule": self.rule,
            "resize_px": self.short_px,
            "interpolation": self.interpolation,
        }


def _short_and_centre(image: Image.Image, short_px: int, size_px: int, method: Image.Resampling) -> Image.Image:
    """torchvision's Resize(short_px) and CenterCrop(size_px), rounding included, on a PIL image."""
    width, height = image.size
    if min(width, height) != short_px:
        long_px = int(short_px * max(width, height) / min(width, height))
        image = image.resize((short_px, long_px) if width <= height else (long_px, short_px), method)
    left, top = (round((side - size_px) / 2) for side in image.size)
    return image.crop((left, top, left + size_px, top + size_px))


CIFAR = Transform(32, "resize-crop")
IMAGENET = Transform(224, "resize-crop", 256)
DFB = Transform(128, "squeeze")


def default_transform(id_set: str, image_size: int | None = None) -> Transform:
    """The ID test transform of a set: CIFAR 32 px, ImageNet 256 to 224, others a centre crop of the shorter side."""
    if id_set.startswith("imagenet"):
        return (
            IMAGENET
            if image_size in (None, 224)
            else Transform(image_size, "resize-crop", round(image_size * 256 / 224))
        )
    if id_set.startswith("shapes"):
        return Transform(image_size or 48, "none" if image_size in (None, 48) else "resize-crop")
    return CIFAR if image_size in (None, 32) else Transform(image_size, "resize-crop")


def transform_from_facts(facts: dict) -> Transform:
    """The transform a checkpoint was trained for: every image that is scored passes it."""
    return Transform(**facts["transform"])
