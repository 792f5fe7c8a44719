"""Images in every form that people give, at the network's size; what is none of them is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.data.transforms import Transform
from common.scoring.given import images_of

TO = Transform(24)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 24, 30, 3), np.uint8)


def given(images, **how):
    return images_of(images, TO, root=Path("data"), **how)


@pytest.fixture
def folder(tmp_path):
    for k, pixels in enumerate(PIXELS):
        (tmp_path / "pets" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pets" / "ab"[k % 2] / f"{k}.png")
    return tmp_path / "pets"


def test_all_forms_of_the_same_images_have_the_same_pixels(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    files = sorted(folder.rglob("*.png"), key=lambda path: path.name)
    forms = [
        given(PIXELS),
        given(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)),
        given(files),
        given([*map(str, files)]),
    ]
    first = next(forms[0].batches(10))
    assert first.shape == (6, 3, 24, 24) and torch.equal(
        first[0].permute(1, 2, 0), torch.from_numpy(PIXELS[0][:, 3:27])
    )
    assert all(torch.equal(next(form.batches(10)), first) for form in forms)
    order = [0, 2, 4, 1, 3, 5]
    for form in (folder, str(folder), f"folder:{folder}", "pets"):
        assert torch.equal(next(given(form).batches(10)), first[order]) and given(form).labels is None
    assert given(folder, classes=("b", "a")).labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert given(str(files[3])).names == (str(files[3]),)
    assert len(given("shapes", limit=5)) == 5


def test_floats_stay_what_they_are_and_a_gradient_leaves_them_alone():
    floats = torch.rand(5, 3, 24, 24)
    batches = list(given(floats).batches(2))
    assert (
        torch.equal(torch.cat(batches), floats) and batches[0].requires_grad_() is not None and not floats.requires_grad
    )
    assert given(floats).digest != given(floats.flip(0)).digest


@pytest.mark.parametrize(
    "images, said",
    [
        (PIXELS[..., :1], r"uint8, N x H x W x 3, got uint8 of shape \(6, 24, 30, 1\)"),
        (PIXELS / 255, "got float64"),
        (torch.rand(2, 1, 24, 24), r"N x 3 x H x W, got torch.float32 of shape \(2, 1, 24, 24\)"),
        (torch.rand(2, 3, 32, 32), "floats are not resized: expected N x 3 x 24 x 24"),
        (torch.rand(2, 3, 24, 24) * 255, r"must be in \[0, 1\]"),
        (torch.full((1, 3, 24, 24), float("nan")), "without NaN"),
        (torch.zeros(1, 3, 24, 24, dtype=torch.int64), "floats in .* or uint8"),
        ("nowhere", "is no file, no folder and no known set"),
        (["nowhere.png"], "no image at nowhere.png"),
        (7, "images must be a data set's name, .* got int"),
        (PIXELS[:0], "there are no images"),
    ],
)
def test_what_cannot_be_meant_is_refused(images, said):
    with pytest.raises(UserError, match=said):
        given(images)


def test_labels_are_whole_numbers_one_an_image():
    assert given(PIXELS, labels=[0, 1, 0, 1, 0, 1], classes="ab").labels.tolist() == [0, 1, 0, 1, 0, 1]
    for labels in ([0, 1], [0, 1, 0, 1, 0, 2], [0.0] * 6):
        with pytest.raises(UserError, match="labels must be"):
            given(PIXELS, labels=labels, classes="ab")
