"""The generated benchmark: class-specific foreground shapes over a family of background textures, every image with its true mask.

Nothing is downloaded and nothing is drawn by hand: the same seed gives the same images. It is the only data here on which a claim about
"background" can be checked against truth.

    shapes               ID: eight shapes (the classes) in any colour, size and pose, over sixteen textures; each class prefers two of them
    shapes-objects       OOD: eight other shapes over the ID textures: a familiar background is all that is familiar
    shapes-textures      OOD: no object, textures whose generator seeds are unseen in training
    shapes-noise         OOD: no object, white noise in random colours
    shapes-backgrounds   ID textures with no object; reported apart, since both methods train on something near it

Dials go into the name: `shapes:correlation=0.5,seed=3`. Look at it: python -m common.data.shapes sheet.png
"""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from common.cli.commands import prog
from common.cli.errors import UserError, command, unknown
from common.cli.files import write_atomically
from common.cli.outputs import check_outputs
from common.cli.recipes import check, field_type, number
from common.data import specs
from common.data.images import Images
from common.data.specs import GENERATED as NAMES

SIZE_PX = 48
COUNTS = {"train": 6000, "test": 1000}
VERSION = 1  # of the generator; part of every digest's provenance
TEXTURES_EACH = 2  # preferred textures of a class
_BLOCK = 500  # images rendered at once


@dataclass(frozen=True)
class Dials:
    """What the benchmark can be turned to. The defaults were fixed on plain training alone."""

    seed: int = number(0, low=0, why="of everything drawn")
    correlation: float = number(
        0.3,
        low=0,
        high=1,
        why="share of ID images whose background is one of their class's own two textures; the rest draw from all",
    )
    size_low: float = number(0.28, low=0.05, high=0.45, why="smallest radius of an object, share of the image's side")
    size_high: float = number(0.42, low=0.05, high=0.45, why="largest radius")
    noise: float = number(0.04, low=0, high=0.5, why="standard deviation of the pixel noise, of [0, 1]")

    def __post_init__(self):
        check(self)
        if self.size_high < self.size_low:
            raise UserError(f"size_high must be >= size_low ({self.size_low:g}), got {self.size_high:g}")


def _rng(seed: int, *use: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, VERSION, *use]))


# --- shapes: is a point of the unit disc inside? u to the right, v down ---------------------------------------------------------------

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _polygon(sides: int, radius: float = 1.0) -> Shape:
    apothem = radius * np.cos(np.pi / sides)

    def inside(u, v):
        angle = np.arctan2(v, u)
        nearest = np.round(angle * sides / (2 * np.pi)) * 2 * np.pi / sides
        return u * np.cos(nearest) + v * np.sin(nearest) <= apothem

    return inside


def _star(points: int, depth: float) -> Shape:
    return lambda u, v: np.hypot(u, v) <= 1 - depth * (0.5 - 0.5 * np.cos(points * np.arctan2(v, u)))


CLASSES: dict[str, Shape] = {
    "disc": lambda u, v: np.hypot(u, v) <= 0.85,
    "ring": lambda u, v: (np.hypot(u, v) <= 0.95) & (np.hypot(u, v) >= 0.5),
    "square": _polygon(4),
    "triangle": _polygon(3),
    "star": _star(5, 0.6),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.28) & (np.maximum(abs(u), abs(v)) <= 0.95),
    "bars": lambda u, v: (abs(u) <= 0.85) & (abs(v) <= 0.85) & (abs(v) >= 0.3),
    "half": lambda u, v: (np.hypot(u, v) <= 1.0) & (v >= -0.1),
}
NEW_SHAPES: dict[str, Shape] = {
    "ellipse": lambda u, v: (u / 0.98) ** 2 + (v / 0.5) ** 2 <= 1,
    "frame": lambda u, v: (np.maximum(abs(u), abs(v)) <= 0.75) & (np.maximum(abs(u), abs(v)) >= 0.4),
    "flower": _star(7, 0.45),
    "crescent": lambda u, v: (np.hypot(u, v) <= 0.95) & (np.hypot(u - 0.45, v) >= 0.75),
    "corner": lambda u, v: (np.maximum(abs(u), abs(v)) <= 0.8) & ((u <= -0.25) | (v >= 0.25)),
    "tee": lambda u, v: (np.maximum(abs(u), abs(v)) <= 0.85) & ((v <= -0.35) | (abs(u) <= 0.25)),
    "dots": lambda u, v: np.minimum(np.hypot(u - 0.52, v), np.hypot(u + 0.52, v)) <= 0.44,
    "hourglass": lambda u, v: (abs(u) <= abs(v)) & (abs(v) <= 0.85),
}

# --- textures: a value in [0, 1] at each point; every one has its own family, scale, direction and two colours ----------------------


@dataclass(frozen=True)
class Textures:
    """A bank of textures: one row each."""

    family: np.ndarray
    frequency: np.ndarray  # cycles over the image
    angle: np.ndarray
    first: Float[np.ndarray, "textures 3"]
    second: Float[np.ndarray, "textures 3"]


Family = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # of x, y and a phase


def _wave(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * x)


def _clouds(x, y, phase):
    angles = range(5)
    waves = [np.sin(2 * np.pi * (x * np.cos(k) + y * np.sin(k)) * (0.35 + 0.12 * k) + (1 + k) * phase) for k in angles]
    return 0.5 + 0.5 * np.tanh(0.8 * sum(waves))


FAMILIES: dict[str, Family] = {
    "stripes": lambda x, y, _: 0.5 + 0.5 * _wave(x),
    "checks": lambda x, y, _: 0.5 + 0.5 * np.tanh(4 * _wave(x) * _wave(y)),
    "rings": lambda x, y, _: 0.5 + 0.5 * _wave(np.hypot(x + 0.7, y + 0.3)),
    "dots": lambda x, y, _: ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(float),
    "waves": lambda x, y, phase: 0.5 + 0.5 * _wave(x + 0.3 * np.sin(2 * np.pi * 0.6 * y + phase)),
    "clouds": _clouds,
}


@lru_cache
def textures(seed: int, seen: bool) -> Textures:
    """The sixteen textures of ID images, or sixteen whose seeds are unseen in training."""
    count = TEXTURES_EACH * len(CLASSES)
    rng = _rng(seed, 1 if seen else 2)
    first, second = rng.random((2, count, 3))
    spread = 0.35 + 0.4 * rng.random((count, 1))  # the two colours are neither equal nor always far apart
    second = np.clip(first + np.sign(second - 0.5) * spread * (0.3 + 0.7 * np.abs(second - 0.5) * 2), 0, 1)
    family = (np.arange(count) + (0 if seen else 3)) % len(FAMILIES)
    return Textures(family, rng.uniform(2.0, 6.0, count), rng.uniform(0, np.pi, count), first, second)


# --- images -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn for each image before it is rendered: one row an image."""

    labels: np.ndarray
    texture: np.ndarray
    uniform: Float[np.ndarray, "images draws"]


def _scenes(dials: Dials, name: str, split: str, count: int) -> Scene:
    rng = _rng(dials.seed, 10 + NAMES.index(name), int(split == "test"))
    labels = rng.permutation(np.arange(count) % len(CLASSES))
    own = labels * TEXTURES_EACH + rng.integers(0, TEXTURES_EACH, count)
    any_ = rng.integers(0, TEXTURES_EACH * len(CLASSES), count)
    texture = np.where(rng.random(count) < dials.correlation, own, any_) if name == "shapes" else any_
    return Scene(labels, texture, rng.random((count, 16)))


def _grid() -> tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "rows cols"]]:
    """x to the right and y down of every pixel's centre, from -0.5 to 0.5."""
    centre = (np.arange(SIZE_PX) + 0.5) / SIZE_PX - 0.5
    return tuple(np.meshgrid(centre, centre))


def _background(bank: Textures, texture: np.ndarray, draws: np.ndarray) -> Float[np.ndarray, "images rows cols 3"]:
    """Each image's texture with its own shift, a small turn and a small change of brightness."""
    x, y = _grid()
    angle = (bank.angle[texture] + 0.3 * (draws[:, 0] - 0.5))[:, None, None]
    frequency = (bank.frequency[texture] * (0.9 + 0.2 * draws[:, 1]))[:, None, None]
    u = frequency * (x * np.cos(angle) + y * np.sin(angle)) + draws[:, 2, None, None]
    v = frequency * (y * np.cos(angle) - x * np.sin(angle)) + draws[:, 3, None, None]
    value = np.empty_like(u)
    for index, family in enumerate(FAMILIES.values()):
        rows = bank.family[texture] == index
        value[rows] = family(u[rows], v[rows], 2 * np.pi * draws[rows, 2, None, None])
    first, second = bank.first[texture][:, None, None], bank.second[texture][:, None, None]
    return (first + value[..., None] * (second - first)) * (0.85 + 0.3 * draws[:, 4, None, None, None])


def _masks(
    shapes: tuple[Shape, ...], labels: np.ndarray, dials: Dials, draws: np.ndarray
) -> Bool[np.ndarray, "images rows cols"]:
    """Each image's shape at its own place, size and turn. True = object. The whole object lies inside the image."""
    x, y = _grid()
    radius = (dials.size_low + (dials.size_high - dials.size_low) * draws[:, 5])[:, None, None]
    room = 0.5 - radius
    angle = 2 * np.pi * draws[:, 6, None, None]
    dx, dy = x - room * (2 * draws[:, 7, None, None] - 1), y - room * (2 * draws[:, 8, None, None] - 1)
    u, v = (dx * np.cos(angle) + dy * np.sin(angle)) / radius, (dy * np.cos(angle) - dx * np.sin(angle)) / radius
    masks = np.zeros(u.shape, dtype=bool)
    for index, inside in enumerate(shapes):
        rows = labels == index
        masks[rows] = inside(u[rows], v[rows])
    return masks


def _render(
    name: str, dials: Dials, scene: Scene, rows: slice, noise: np.ndarray
) -> tuple[UInt8[np.ndarray, "images 3 rows cols"], np.ndarray]:
    draws, texture, labels = scene.uniform[rows], scene.texture[rows], scene.labels[rows]
    pixels = _background(textures(dials.seed, name != "shapes-textures"), texture, draws)
    masks = np.zeros(pixels.shape[:3], dtype=bool)
    if name == "shapes-noise":
        pixels = draws[:, None, None, 9:12] + (0.15 + 0.35 * draws[:, None, None, 12:13]) * noise
    elif name in ("shapes", "shapes-objects"):
        masks = _masks(tuple((CLASSES if name == "shapes" else NEW_SHAPES).values()), labels, dials, draws)
        colour = draws[:, None, None, 9:12]
        behind = pixels.mean((1, 2), keepdims=True)
        # An object one cannot see would have a wrong label
        near = np.abs(colour - behind).max(-1, keepdims=True) < 0.25
        pixels = np.where(masks[..., None], np.where(near, (colour + 0.5) % 1, colour), pixels)
    if name != "shapes-noise":
        pixels = pixels + dials.noise * noise
    return np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8).transpose(0, 3, 1, 2), masks


def load(name: str, split: str = "test", limit: int | None = None) -> Images:
    """A set of the benchmark; `shapes` has labels, classes and a train split, every set has masks (True = object).

    The first `limit` images are those of the whole set. Raises UserError for an unknown name, dial or split.
    """
    base, dials = parse(name)
    if split not in COUNTS or (split == "train" and base != "shapes"):
        raise UserError(f"{base} has no split {split!r}; it has {'train, test' if base == 'shapes' else 'test'}")
    whole = COUNTS[split]
    if limit is not None and not 1 <= limit:
        raise UserError(f"limit must be >= 1, got {limit}")
    count = min(whole, limit or whole)
    scene = _scenes(dials, base, split, whole)
    parts = []
    for block, start in enumerate(range(0, count, _BLOCK)):
        rng = _rng(dials.seed, 10 + NAMES.index(base), 2 + (split == "test"), block)
        rows = slice(start, min(start + _BLOCK, count))
        noise = rng.standard_normal((_BLOCK, SIZE_PX, SIZE_PX, 3), dtype=np.float32)[: rows.stop - rows.start]
        parts.append(_render(base, dials, scene, rows, noise))
    pixels, masks = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*parts))
    labels = torch.from_numpy(scene.labels[:count]) if base == "shapes" else None
    facts = {"set": base, "benchmark": False, "split": split, "encoding": "generated", "generator": VERSION}
    facts |= dataclasses.asdict(dials)
    return Images(name, pixels, labels, masks, tuple(CLASSES) if base == "shapes" else (), facts)


def parse(name: str) -> tuple[str, Dials]:
    """`shapes:correlation=0.5,seed=3` -> ("shapes", Dials(...)). Raises UserError that lists what is known."""
    base, options = specs.parse(name)
    if base not in NAMES:
        raise unknown("generated set", base, NAMES)
    known, changes = [field.name for field in dataclasses.fields(Dials)], {}
    for key, word in options.items():
        if key not in known:
            raise unknown(f"dial of {base}", key, known)
        try:
            changes[key] = field_type(Dials, key)(word)
        except ValueError:
            raise UserError(f"{key} must be a number, got {word!r}") from None
    return base, Dials(**changes)


def main() -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(
        prog=prog("common.data.shapes"), description="Sixteen images of each set on one sheet."
    )
    parser.add_argument("sheet", type=Path, metavar="SHEET.png")
    path = parser.parse_args().sheet
    if path.suffix.lower() != ".png":
        raise UserError(f"the sheet must be called NAME.png, got {str(path)!r}")
    check_outputs([path])
    strips = [np.concatenate(list(load(name, limit=16).pixels.numpy().transpose(0, 2, 3, 1)), axis=1) for name in NAMES]
    sheet = np.concatenate(strips).repeat(2, axis=0).repeat(2, axis=1)
    write_atomically(path, lambda part: Image.fromarray(sheet).save(part, "PNG"))


if __name__ == "__main__":
    command(main)
