"""Images on both sides are found by their content, in memory and streamed."""

import shutil

import pytest
import torch
from PIL import Image

from common.cli.errors import UserError
from common.data.datasets import load
from common.data.images import Images
from common.data.overlap import check_overlap
from common.data.transforms import Transform


@pytest.fixture(params=[32, 72], ids=["in memory", "streamed"])
def loaded(request, tmp_path, noise):
    """loaded("id"): that folder below tmp_path; id/ has five images, ood/ three others."""
    for k in range(5):
        noise(f"id/{k}.png", size=(80, 80), seed=k)
    for k in range(3):
        noise(f"ood/{k}.png", size=(80, 80), seed=10 + k)

    return lambda name: load(f"folder:{tmp_path / name}", "test", root=tmp_path, transform=Transform(request.param))


def test_sets_without_a_common_image_pass_in_silence(loaded, capsys):
    check_overlap(loaded("id"), loaded("ood"))
    assert capsys.readouterr().err == ""


def test_a_copy_under_another_name_and_a_part_of_it_are_refused(loaded, tmp_path):
    for k in (4, 2):
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(tmp_path / f"id/{k}.png", tmp_path / f"copy/other {k}.png")
    with pytest.raises(UserError, match="^folder:.*copy: every image is in the test set of folder:.*id too"):
        check_overlap(loaded("id"), loaded("copy"))


def test_some_shared_images_are_counted_and_said(loaded, tmp_path, capsys):
    for k in (0, 1):
        shutil.copy(tmp_path / f"id/{k}.png", tmp_path / f"ood/again {k}.png")
    check_overlap(loaded("id"), loaded("ood"))
    assert "2 of the 5 images of folder:" in capsys.readouterr().err


def test_pixels_are_compared_whatever_the_file_streamed_ones_once_they_have_passed(loaded, tmp_path, capsys):
    Image.open(tmp_path / "id/1.png").save(tmp_path / "ood/8.bmp")
    inside, outside = loaded("id"), loaded("ood")
    for images in (inside, outside):
        list(images.batches(2))
    check_overlap(inside, outside)
    assert "1 of the 4 images of folder:" in capsys.readouterr().err


def test_images_in_memory_and_streamed_ones_are_compared_by_their_pixels(tmp_path, noise, capsys):
    for k in range(3):
        noise(f"id/{k}.png", size=(72, 72), seed=k)
    shutil.copy(tmp_path / "id/2.png", noise("ood/7.png", size=(72, 72), seed=9).with_name("8.png"))
    inside, outside = (
        load(f"folder:{tmp_path / name}", "test", root=tmp_path, transform=Transform(72)) for name in ("id", "ood")
    )
    held = Images("held", torch.cat(list(inside.batches(3))))
    check_overlap(held, outside)
    assert capsys.readouterr().err == ""
    list(outside.batches(3))
    check_overlap(held, outside)
    assert "1 of the 2 images of folder:" in capsys.readouterr().err


def test_a_part_of_a_set_begins_with_no_pixels_known(loaded):
    images = loaded("id")
    list(images.batches(2))
    if not isinstance(images, Images):
        assert len(images.seen) == 5 and images.subset(torch.tensor([1])).seen == {}
