"""Images and their jigsawed copies."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.data import load
from common.data.images import Images
from common.data.jigsaw import shuffled, with_jigsaw
from common.data.transforms import Transform


def made(count: int = 6) -> Images:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images("made", pixels, torch.arange(count) % 3, classes=("a", "b", "c"), facts={"set": "made"})


def tiles(image: torch.Tensor, pieces: int) -> list[torch.Tensor]:
    side = image.shape[1] // pieces
    return [
        image[:, side * r : side * (r + 1), side * c : side * (c + 1)] for r in range(pieces) for c in range(pieces)
    ]


def test_each_place_shows_the_tile_that_the_order_names():
    pixels = made(2).pixels
    orders = torch.stack([torch.randperm(16), torch.arange(16)]).to(torch.uint8)
    got = shuffled(pixels, orders, 4)
    before, after = tiles(pixels[0], 4), tiles(got[0], 4)
    assert all(torch.equal(after[place], before[tile]) for place, tile in enumerate(orders[0].tolist()))
    assert torch.equal(got[1], pixels[1])


def test_behind_the_images_lie_their_copies_as_a_class_of_its_own():
    images = made()
    both = with_jigsaw(images, 2, 2, seed=1)
    assert isinstance(both, Images) and len(both) == 18 and both.classes == images.classes
    assert torch.equal(both.pixels[:6], images.pixels)
    assert both.labels.tolist() == [*images.labels.tolist(), *(12 * [3])]
    for row in range(6, 18):
        own = {tile.numpy().tobytes() for tile in tiles(images.pixels[row % 6], 2)}
        assert {tile.numpy().tobytes() for tile in tiles(both.pixels[row], 2)} == own
    moved = (both.pixels[6:] != images.pixels.repeat(2, 1, 1, 1)).flatten(1).any(1)
    assert moved.sum() >= 8 and not torch.equal(both.pixels[6:12], both.pixels[12:])
    again, other = (with_jigsaw(images, 2, 2, seed) for seed in (1, 2))
    assert again.digest == both.digest != images.digest and other.digest != both.digest


def test_of_a_set_that_is_streamed_any_rows_are_those_of_one_in_memory(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number + 3 * (name == "b")).integers(0, 256, (72, 72, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    files = load(f"folder:{tmp_path}", "train", root=tmp_path, transform=Transform(72, "none"))
    pixels = torch.cat(list(files.batches(10)))
    held = with_jigsaw(Images("held", pixels, files.labels, classes=files.classes), 8, 1, 5)
    both = with_jigsaw(files, 8, 1, 5)
    assert len(both) == 12 and both.size_px == (72, 72) and not hasattr(both, "training_batches")
    assert torch.equal(torch.cat(list(both.batches(5))), held.pixels) and both.labels.tolist() == held.labels.tolist()
    rows = torch.tensor([11, 0, 7, 7, 3])
    assert torch.equal(torch.cat(list(both.whole_batches(rows, 2))), held.pixels[rows])
    assert torch.equal(torch.cat(list(both.whole_batches([rows[:3], rows[3:]]))), held.pixels[rows])
    assert both.digest == with_jigsaw(files, 8, 1, 5).digest != with_jigsaw(files, 8, 1, 6).digest


@pytest.mark.parametrize("pieces", [1, 3, 17])
def test_tiles_that_are_not_whole_are_refused(pieces):
    with pytest.raises(UserError, match=f"^pieces must be in 2..16 and divide the images' side, 8 px, got {pieces}$"):
        with_jigsaw(made(), pieces, 1, 0)
