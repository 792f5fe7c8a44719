import numpy as np
import pytest
import torch

from common.cli.errors import UserError
from common.data import shapes
from common.data.shapes import CLASSES, NAMES, NEW_SHAPES, SIZE_PX, Dials, load, parse


@pytest.mark.parametrize("name", NAMES)
def test_the_same_name_gives_the_same_images_and_a_part_is_the_beginning_of_the_whole(name):
    whole, part = load(name, limit=600), load(name, limit=30)  # two blocks, and a part of the first
    assert torch.equal(whole.pixels[:30], part.pixels) and load(name, limit=30).digest == part.digest
    assert part.size_px == (SIZE_PX, SIZE_PX) and load(f"{name}:seed=1", limit=30).digest != part.digest


def test_objects_have_masks_and_sets_without_objects_have_empty_ones():
    for name in NAMES:
        has_object = load(name, limit=20).masks.flatten(1).any(1)
        assert has_object.all() if name in ("shapes", "shapes-objects") else not has_object.any()


def test_an_object_can_be_seen_and_lies_inside_the_image():
    images = load("shapes", limit=200)
    for disc in images.masks[images.labels == list(CLASSES).index("disc")]:
        rows, cols = disc.any(1).sum(), disc.any(0).sum()
        assert abs(rows - cols) <= 1 and 2 * 0.85 * 0.28 * SIZE_PX - 1 <= rows <= 2 * 0.85 * 0.42 * SIZE_PX + 1, (
            "nothing is cut off"
        )
    pixels, masks = images.pixels.float() / 255, images.masks.unsqueeze(1)
    inside = (pixels * masks).sum((2, 3)) / masks.sum((2, 3))
    outside = (pixels * ~masks).sum((2, 3)) / (~masks).sum((2, 3))
    assert ((inside - outside).abs().amax(1) > 0.1).all()


def test_correlation_is_the_share_of_backgrounds_of_a_classs_own():
    for correlation in (0.0, 1.0):
        scene = shapes._scenes(Dials(correlation=correlation), "shapes", "train", 4000)
        own = (scene.texture // shapes.TEXTURES_EACH == scene.labels).mean()
        assert own == (1.0 if correlation else pytest.approx(1 / len(CLASSES), abs=0.02))


def test_the_sets_differ_in_what_is_new():
    assert not set(CLASSES) & set(NEW_SHAPES) and len(CLASSES) == len(NEW_SHAPES) == 8
    seen, unseen = shapes.textures(0, True), shapes.textures(0, False)
    assert not np.isclose(seen.first, unseen.first).all(axis=1).any()
    assert np.bincount(load("shapes", limit=800).labels).min() > 70


@pytest.mark.parametrize(
    ("name", "split", "text"),
    [
        ("shapes-x", "test", "unknown generated set 'shapes-x'; known: shapes, shapes-objects"),
        ("shapes:hue=1", "test", "unknown dial of shapes 'hue'; known: seed, correlation"),
        ("shapes:seed=x", "test", "seed must be a number, got 'x'"),
        ("shapes:correlation=2", "test", r"correlation must be in \[0, 1\], got 2"),
        ("shapes:size_low=0.4,size_high=0.3", "test", r"size_high must be >= size_low \(0.4\), got 0.3"),
        ("shapes-noise", "train", "shapes-noise has no split 'train'; it has test"),
        ("shapes", "val", "shapes has no split 'val'; it has train, test"),
    ],
)
def test_bad_names_dials_and_splits_are_named(name, split, text):
    with pytest.raises(UserError, match=f"^{text}"):
        load(name, split)


def test_dials_go_into_the_name():
    assert parse("shapes:correlation=0.5,seed=3") == ("shapes", Dials(seed=3, correlation=0.5))
