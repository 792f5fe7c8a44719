import os

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.data.decoding import decode
from common.data.folders import FolderImages, file_keys, files_digest, in_memory, random_resized_crop
from common.data.transforms import Transform

SMALL = Transform(16, "resize-crop")


@pytest.fixture
def files(tmp_path):
    """Seven PNGs of several sizes and modes."""
    rng = np.random.default_rng(1)
    for k, (width, height, mode) in enumerate(
        [
            (20, 30, "RGB"),
            (16, 16, "RGB"),
            (40, 17, "L"),
            (16, 50, "P"),
            (33, 33, "RGBA"),
            (90, 20, "RGB"),
            (16, 16, "1"),
        ]
    ):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode).save(
            tmp_path / f"{k}.png"
        )
    return tuple(sorted(tmp_path.iterdir()))


def streamed(files, workers=0, **more):
    return FolderImages("mine", files, tuple(path.name for path in files), SMALL, workers=workers, **more)


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_and_loading_give_the_same_pixels_in_order(files, workers):
    batches = list(streamed(files, workers).batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert batches[0].dtype == torch.uint8
    assert torch.equal(torch.cat(batches), in_memory(files, SMALL))
    for path, pixels in zip(files, torch.cat(batches)):
        assert np.array_equal(np.asarray(SMALL(Image.open(path).convert("RGB"))), pixels.permute(1, 2, 0).numpy())


def test_a_crop_depends_on_the_seed_and_the_row_only(files):
    images = streamed(files)
    rows = torch.tensor([5, 0, 4])
    cropped = lambda images, rows, batch, seed: torch.cat([v for (v,) in images.training_batches(rows, batch, seed)])  # noqa: E731
    one = cropped(images, rows, 2, 7)
    assert torch.equal(one, cropped(streamed(files, 2), rows, 1, 7))
    assert torch.equal(one.flip(0), cropped(images, rows.flip(0), 3, 7))
    assert not torch.equal(one, cropped(images, rows, 2, 8))
    for row, crop in zip(rows.tolist(), one):
        image = decode(files[row])
        box = random_resized_crop(image, (0.08, 1.0), np.random.default_rng([7, row]))
        expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BILINEAR))
        assert np.array_equal(expected, crop.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("workers", [0, 2])
def test_each_view_has_a_crop_of_its_own_that_depends_on_seed_row_and_view(files, workers):
    rows = torch.tensor([5, 0, 4])
    two = torch.cat(list(streamed(files, workers).training_batches(rows, 2, 7, views=2)), dim=1)
    three = torch.cat(list(streamed(files).training_batches(rows.flip(0), 3, 7, views=3)), dim=1)
    assert two.shape == (2, 3, 3, 16, 16) and torch.equal(two, three[:2].flip(1))
    assert all(not torch.equal(*two[:, row]) for row in range(3))
    (one,) = next(streamed(files).training_batches(rows, 3, 7))
    assert torch.equal(one, two[0])


def test_crops_have_the_area_and_ratio_asked_for():
    image, rng = Image.new("RGB", (400, 300)), np.random.default_rng(0)
    boxes = [random_resized_crop(image, (0.2, 0.5), rng) for _ in range(300)]
    sides = np.array([(right - left, lower - upper) for left, upper, right, lower in boxes])
    area, ratio = sides.prod(1) / (400 * 300), sides[:, 0] / sides[:, 1]
    assert 0.195 < area.min() < 0.23 and 0.47 < area.max() < 0.505
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.35
    assert all(0 <= left and 0 <= upper and right <= 400 and lower <= 300 for left, upper, right, lower in boxes)


def test_a_shape_that_no_crop_fits_gives_its_centre():
    assert random_resized_crop(Image.new("RGB", (1000, 30)), (0.9, 1.0), np.random.default_rng(0)) == (480, 0, 520, 30)


def test_the_digest_follows_names_bytes_labels_and_transform_but_not_the_place(files, tmp_path):
    first = streamed(files)
    assert first.digest == streamed(files).digest
    assert first.facts["digest_covers"] == "names, sizes and contents"
    others = [
        streamed(files[1:]),
        streamed(files, labels=torch.arange(7)),
        FolderImages("mine", files, tuple(path.name for path in files), Transform(17)),
        FolderImages("mine", files, tuple("x" + path.name for path in files), SMALL),
    ]
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    others.append(streamed(files))
    assert len({first.digest, *(other.digest for other in others)}) == 6


def test_large_sets_are_named_by_names_and_sizes(files):
    names = [path.name for path in files]
    assert file_keys(files, limit=6) == () and len(set(file_keys(files))) == 7
    before = files_digest(files, names, ())
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    assert files_digest(files, names, ()) == before
    files[0].write_bytes(bytes(content) + b"x")
    assert files_digest(files, names, ()) != before
    assert streamed(files, keys=()).facts["digest_covers"] == "names and sizes"


def test_a_subset_keeps_rows_and_labels_together(files):
    part = streamed(files, labels=torch.arange(7)).subset(torch.tensor([4, 2]), "part")
    assert (part.name, len(part), part.labels.tolist(), part.size_px) == ("part", 2, [4, 2], (16, 16))
    assert torch.equal(next(part.batches(2)), in_memory((files[4], files[2]), SMALL))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named(files, workers):
    files[3].write_bytes(files[3].read_bytes()[:60])
    with pytest.raises(UserError, match=r"3\.png does not decode as an image"):
        list(streamed(files, workers).batches(2))
    with pytest.raises(UserError, match=r"3\.png does not decode as an image"):
        in_memory(files, SMALL)


def test_arrays_of_the_right_size_are_taken_as_they_are():
    pixels = np.random.default_rng(2).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(in_memory(pixels, SMALL).permute(0, 2, 3, 1).numpy(), pixels)
    assert not np.array_equal(in_memory(pixels, Transform(16, "via32")).permute(0, 2, 3, 1).numpy(), pixels)


def test_a_worker_that_dies_is_one_message(files, monkeypatch):
    monkeypatch.setattr("common.data.folders.decode", lambda path: os._exit(1))
    with pytest.raises(UserError, match="a process that decodes images died"):
        list(streamed(files, 2).batches(2))
