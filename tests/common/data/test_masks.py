"""Masks as bits on disk, and masks that stay on their images when both are scaled, mirrored and cut (common/training/placement.py)."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cli.errors import UserError
from common.data import masks as module
from common.data.images import Images
from common.data.masks import IGNORE, StoredMasks, check_masks, make_masks, pack, read_masks, write_manifest
from common.training.placement import JointAugmentation, Placement, place_images, place_masks

FACTS = {
    "checkpoint_sha256": "c" * 64,
    "data": "toys",
    "data_sha256": "d" * 64,
    "classes": 300,
    "transform": {"size_px": 7},
    "recipe": {"theta": 0.5},
}


def random_masks(count, height=5, width=7, seed=0):
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed)) < 0.4


def written(folder, masks, facts=FACTS, calls=None):
    def make(rows):
        if calls is not None:
            calls.append(rows.tolist())
        return {"masks": masks[rows].numpy(), "predicted": rows.numpy().astype(np.int32)}

    size = tuple(masks.shape[1:])
    made = make_masks(folder, facts, len(masks), size, make)
    write_manifest(folder, facts, len(masks), size, {"foreground_share": 0.4})
    return made


# --- storage -----------------------------------------------------------------------------------------------------------------------------


def test_bits_by_hand():
    mask = np.array([[[True, False, False], [False, True, True], [False, False, True]]])
    assert pack(mask).tolist() == [[0b10001100, 0b10000000]]


def test_what_is_read_is_what_was_made_and_any_rows_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    masks = random_masks(10)
    made = written(tmp_path, masks)
    stored = read_masks(tmp_path)
    index = torch.tensor([9, 0, 3, 3])
    assert torch.equal(stored.rows(index), masks[index]) and stored.size == (5, 7)
    assert made["predicted"].tolist() == list(range(10)) and len(list(tmp_path.glob("part-*.npz"))) == 3


def test_an_interrupted_folder_is_gone_on_with_and_a_stale_one_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    masks, calls = random_masks(10), []
    written(tmp_path, masks)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "part-00001.npz").write_bytes(b"cut short")
    with pytest.raises(UserError, match="never made, or not finished"):
        read_masks(tmp_path)
    written(tmp_path, masks, calls=calls)
    assert calls == [[4, 5, 6, 7]]
    changed = FACTS | {"recipe": {"theta": 0.6}}
    with pytest.raises(RuntimeError), monkeypatch.context():
        make_masks(tmp_path, changed, 10, (5, 7), lambda rows: (_ for _ in ()).throw(RuntimeError))
    assert not (tmp_path / "manifest.json").exists()  # half made for another recipe: no old mask can be read
    calls.clear()
    written(tmp_path, ~masks, changed, calls)
    assert len(calls) == 3 and torch.equal(read_masks(tmp_path).rows(torch.arange(10)), ~masks)


def test_a_manifest_that_was_edited_cut_or_is_another_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    written(tmp_path, random_masks(3))
    whole = path.read_text()

    def said(change):
        content = json.loads(whole)
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(UserError) as error:
            read_masks(tmp_path)
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
        return str(error.value)

    changed = "was changed after it was written"
    assert changed in said(lambda c: c["recipe"].update(theta=0.9))
    assert changed in said(lambda c: c["counts"].update(foreground_share=0.5))
    assert changed in said(lambda c: c.update(images=4)) and changed in said(lambda c: c.update(identity="x"))
    assert changed in said(lambda c: c.update(size=[7, 5])) and changed in said(lambda c: c.update(more=1))
    for name, kind in module.NEEDS.items():
        assert f"expected {name!r}, a {kind.__name__}, got None" in said(lambda c, name=name: c.pop(name))
    assert "is of older masks" in said(lambda c: c.update(format=module.OLDER))
    assert "is not a manifest of masks of this suite" in said(lambda c: c.clear())
    path.write_text("[]")
    with pytest.raises(UserError, match="is not a manifest of masks of this suite"):
        read_masks(tmp_path)
    path.write_text(whole[:-20])
    with pytest.raises(UserError, match=r"manifest\.json, line \d+: not a whole manifest in JSON"):
        read_masks(tmp_path)


def test_every_part_is_the_one_that_was_made_in_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "PART", 4)
    masks, first, second = random_masks(10), tmp_path / "part-00000.npz", tmp_path / "part-00001.npz"
    other = random_masks(10, seed=1)
    written(tmp_path / "other", other)  # by the same network and recipe, on a machine that rounds otherwise
    contents = [first, second]

    def spoiled(damage):
        written(tmp_path, masks)
        capsys.readouterr()
        contents[:] = [path.read_bytes() for path in (first, second)]
        damage()
        with pytest.raises(UserError, match=r"part-0000[01]\.npz is (missing|damaged, or of other masks than)"):
            read_masks(tmp_path)

    flipped = lambda content, at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]  # noqa: E731
    spoiled(lambda: [first.write_bytes(contents[1]), second.write_bytes(contents[0])])  # swapped
    written(tmp_path, masks)
    assert "part-00000.npz: not the part that belongs here (it is of other masks)" in capsys.readouterr().err
    spoiled(lambda: first.write_bytes((tmp_path / "other/part-00000.npz").read_bytes()))
    first.unlink()
    spoiled(first.unlink)
    for at in np.random.default_rng(0).integers(len(contents[0]), size=20).tolist():
        spoiled(lambda at=at: first.write_bytes(flipped(contents[0], at)))
    (tmp_path / "manifest.json").unlink()
    written(tmp_path, masks)
    assert torch.equal(read_masks(tmp_path).rows(torch.arange(10)), masks)


def test_masks_of_other_images_network_classes_or_size_are_refused():
    images = Images("toys", torch.zeros(3, 3, 5, 7, dtype=torch.uint8), digest="d" * 64)
    stored = StoredMasks(torch.zeros(3, 5, dtype=torch.uint8), (5, 7), FACTS)
    check_masks(stored, images, "c" * 64, 300)
    with pytest.raises(UserError, match="the masks are of 300 classes, the network has 10"):
        check_masks(stored, images, "c" * 64, 10)
    with pytest.raises(
        UserError,
        match=r"the masks are of other images \(toys, 3 images, dddddddddddd\) than toys, 3 images, eeeeeeeeeeee",
    ):
        check_masks(stored, Images("toys", images.pixels, digest="e" * 64), "c" * 64, 300)
    with pytest.raises(
        UserError,
        match=r"the masks were made by another network \(cccccccccccc\) than this checkpoint \(aaaaaaaaaaaa\)",
    ):
        check_masks(stored, images, "a" * 64, 300)
    with pytest.raises(UserError, match="the masks are 7 x 5 pixels, the images 5 x 7"):
        check_masks(StoredMasks(stored.bits, (7, 5), FACTS), images, "c" * 64, 300)


# --- images and masks together -----------------------------------------------------------------------------------------------------------


def placements(*rows):
    """(rows, cols, top, left, mirrored) an image."""
    table = torch.tensor([row[:4] for row in rows])
    return Placement(table[:, :2], table[:, 2:], torch.tensor([bool(row[4]) for row in rows]))


def plain_place(image, mask, size, offset, mirrored):
    """The oracle: torch's resize (the mask by whole-number nearest), mirror, then copy what the window shows, pixel by pixel."""
    height, width = mask.shape
    scaled = F.interpolate(image[None], size=size, mode="bilinear")[0]
    nearest = [[(2 * p + 1) * n // (2 * to) for p in range(to)] for n, to in zip(mask.shape, size)]
    labels = mask[nearest[0]][:, nearest[1]].long()
    if mirrored:
        scaled, labels = scaled.flip(2), labels.flip(1)
    out, target = torch.zeros_like(image), torch.full((height, width), IGNORE)
    for i in range(height):
        for j in range(width):
            y, x = i + offset[0], j + offset[1]
            if 0 <= y < size[0] and 0 <= x < size[1]:
                out[:, i, j], target[i, j] = scaled[:, y, x], labels[y, x]
    return out, target


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(6, 9), (8, 8), (7, 5)]))
def test_placing_equals_resizing_padding_and_cropping_one_image_at_a_time(seed, window):
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(4, 3, *window, generator=generator, dtype=torch.float64), random_masks(4, *window, seed)
    place = JointAugmentation().draw(4, window, generator)
    got, labels = place_images(images, place), place_masks(masks, place)
    for row in range(4):
        expected = plain_place(
            images[row], masks[row], place.size[row].tolist(), place.offset[row].tolist(), place.mirrored[row]
        )
        assert (got[row] - expected[0]).abs().max() < 1e-12 and torch.equal(labels[row], expected[1])


def coordinates(height, width):
    """An image whose channels are row, column and mask, so that every output pixel says where it came from."""
    rows, cols = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    mask = (rows + cols) % 8 < 4
    return torch.stack([rows, cols, mask.double()])[None], mask[None]


def misplaced(images_place, masks_place, window=(32, 32)):
    """The share of counted pixels, away from mask edges, at which the mask channel of the image and the mask disagree."""
    image, mask = coordinates(*window)
    got = place_images(image.expand(len(images_place.size), -1, -1, -1), images_place)[:, 2]
    labels = place_masks(mask.expand(len(masks_place.size), -1, -1), masks_place)
    sure = ((got < 0.02) | (got > 0.98)) & (labels != IGNORE)
    return ((got > 0.5) != (labels == 1))[sure].double().mean()


def test_image_and_mask_stay_together_and_one_shifted_pixel_shows():
    place = JointAugmentation().draw(64, (32, 32), torch.Generator().manual_seed(0))
    assert misplaced(place, place) < 1e-3
    assert misplaced(place, place._replace(offset=place.offset + torch.tensor([0, 1]))) > 0.05
    assert misplaced(place, place._replace(mirrored=~place.mirrored)) > 0.2
    assert misplaced(place, place._replace(size=place.size + 2)) > 0.02


def test_a_mirror_alone_is_exact():
    image, mask = coordinates(6, 5)
    place = placements((6, 5, 0, 0, True))
    assert torch.equal(place_images(image, place), image.flip(3)) and torch.equal(
        place_masks(mask, place), mask.flip(2).long()
    )


def test_padding_is_black_and_ignored_and_never_background():
    image, mask = torch.ones(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    place = placements((2, 2, -1, -2, False))
    assert place_masks(mask, place)[0].tolist() == [
        [IGNORE] * 4,
        [IGNORE, IGNORE, 0, 0],
        [IGNORE, IGNORE, 0, 0],
        [IGNORE] * 4,
    ]
    assert place_images(image, place)[0, 0].tolist() == [[0.0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], [0.0] * 4]


def test_draws_cover_the_declared_ranges_and_follow_the_generator():
    how, window = JointAugmentation(0.5, 2.0, True), (20, 10)
    place = how.draw(4000, window, torch.Generator().manual_seed(1))
    assert (
        place.size[:, 0].min() == 10
        and place.size[:, 0].max() == 40
        and abs(place.mirrored.double().mean() - 0.5) < 0.05
    )
    assert (place.offset[:, 0] <= (place.size[:, 0] - 20).clamp_min(0)).all() and (
        place.offset[:, 0] >= (place.size[:, 0] - 20).clamp_max(0)
    ).all()
    again = how.draw(4000, window, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(place, again))
    assert not JointAugmentation(flip=False).draw(100, window, torch.Generator()).mirrored.any()
