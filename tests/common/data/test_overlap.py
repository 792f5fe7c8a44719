"""Images on both sides are found by their content, in memory and streamed."""

import shutil

import pytest
from PIL import Image

from common.cli.errors import UserError
from common.data.datasets import load
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


def test_pixels_in_memory_are_compared_whatever_the_file(tmp_path, noise, capsys):
    noise("id/0.png")
    Image.open(noise("id/1.png", seed=1)).save(noise("ood/7.png", seed=2).with_name("8.bmp"))
    check_overlap(*(load(f"folder:{tmp_path / name}", "test", root=tmp_path) for name in ("id", "ood")))
    assert "1 of the 2 images of folder:" in capsys.readouterr().err
