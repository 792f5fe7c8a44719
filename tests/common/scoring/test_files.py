"""Files scored one by one: which they are, and what a broken one costs."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.cli.errors import UserError
from common.scoring import Detector
from common.scoring.files import files_of, judged


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "below").mkdir(parents=True)
    for name in ("in/1.png", "in/below/2.jpg", "in/3.png", "4.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "in" / "2 broken.png").write_bytes(b"no image")
    (tmp_path / "in" / "notes.md").write_text("no image")
    (tmp_path / "list.txt").write_text("4.png\n\nin/gone.png\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_patterns_lists_and_files_lead_to_images_each_once(inbox):
    found = files_of(["in/3.png", "in", "*.png", "list.txt"])
    expected = ["in/3.png", "in/1.png", "in/2 broken.png", "in/below/2.jpg", "4.png", "in/gone.png"]
    assert [*map(str, found)] == expected
    (inbox / "in/own.txt").write_text(
        "below/2.jpg 1\n1.png 0\n"
    )  # as a set: from its folder on, and what is missing is its fault
    assert [path.relative_to(inbox).as_posix() for path in files_of(["list:in/own.txt"])] == [
        "in/1.png",
        "in/below/2.jpg",
    ]
    with pytest.raises(UserError, match="list.txt line 3: no image at .*in/gone.png"):
        files_of(["list:list.txt"])
    for word in ("nowhere", "*.bmp"):
        with pytest.raises(UserError, match="no image there"):
            files_of([word])


@pytest.mark.parametrize("batch_size", [1, 2, 250])
def test_what_cannot_be_read_costs_its_own_row_alone(inbox, batch_size):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    d = Detector.from_module(net, classes=["a", "b", "c"], size_px=16, mean=0.5, std=0.5, device="cpu").fit()
    d.batch_size = batch_size
    found = dict(judged(d, files_of(["in", "list.txt"])))
    rows = {str(file): one for file, one in found.items()}
    assert "does not decode" in rows.pop("in/2 broken.png") and "is gone" in rows.pop("in/gone.png")
    for name, (number, score) in rows.items():
        assert score == pytest.approx(d.score(name)[0]) and number == d.judge(name)[0][0]
    with pytest.raises(UserError, match="2 broken.png does not decode"):
        list(judged(d, files_of(["in"]), stop=True))
