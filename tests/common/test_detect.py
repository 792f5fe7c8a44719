"""python -m common.detect, and docs/own_network.md as it stands."""

import csv
import json
import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from common import detect
from common.cli.errors import UserError
from common.scoring import Detector

PAGE = (Path(__file__).parents[2] / "docs" / "own_network.md").read_text()


def folder(path, classes, count, seed):
    rng = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.clip(rng.normal(60 + 60 * k, 40, (64, 80, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")


@pytest.fixture
def place(tmp_path, monkeypatch):
    torch.manual_seed(0)
    folder(tmp_path / "data/train", ("cat", "dog", "fox"), 6, 0)
    folder(tmp_path / "data/val", ("cat", "dog", "fox"), 7, 1)
    folder(tmp_path / "inbox", ("new",), 3, 2)
    Image.new("L", (90, 50)).save(tmp_path / "inbox/grey.png")
    torch.save(timm.create_model("resnet10t", num_classes=3).state_dict(), tmp_path / "mine.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")
def test_the_pages_python_and_commands_run_as_they_stand(place, typed, capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    exec(code, {})
    assert len(capsys.readouterr().out.splitlines()) == 4
    lines = re.search(r"```bash\n(.*?)```", PAGE, re.S)[1].splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "common.detect"]
        said = typed(detect, *words[3:])
        assert said.code == 0, said.err
    assert json.loads(said.out)["classes"] == ["cat", "dog", "fox"]
    rows = list(csv.DictReader((place / "inbox.csv").open()))
    assert [row["file"] for row in rows] == ["inbox/grey.png", *(f"inbox/new/{k}.png" for k in range(3))]
    d = Detector.load("mine.ood")
    for row, (name, score, accepted) in zip(rows, d.predict([row["file"] for row in rows]), strict=True):
        assert (row["class"], float(row["score"]), row["accepted"]) == (name, score, str(accepted).lower())


def test_a_broken_image_is_a_row_or_stops(place, typed, finished):
    path = finished("c.pt", transform={"size_px": 48, "rule": "resize-crop"})
    assert typed(detect, "fit", path, "--out", "d.ood", "--scorer", "msp", "--quiet").code == 0
    (place / "inbox/=broken.png").write_bytes(b"no image")
    (place / "list.txt").write_text("=gone.png\n")
    said = typed(detect, "score", "d.ood", "inbox", "list.txt", "--csv", "out.csv", "--quiet")
    assert said.code == 0 and "4 images scored; 2 could not be read: out.csv" in said.out
    rows = {row["file"]: row for row in csv.DictReader((place / "out.csv").open())}
    assert rows["inbox/=broken.png"]["score"] == "" and "does not decode" in rows["inbox/=broken.png"]["error"]
    assert "is gone" in rows["./=gone.png"]["error"] and rows["inbox/grey.png"]["accepted"] == ""
    again = typed(detect, "score", "d.ood", "inbox", "list.txt", "--csv", "out.csv", "--quiet")
    assert "done already" in again.err and again.out == said.out
    stopped = typed(detect, "score", "d.ood", "inbox", "--csv", "other.csv", "--on-corrupt", "stop", "--quiet")
    assert stopped.code == 2 and "does not decode" in stopped.err and not (place / "other.csv").exists()


def test_a_detector_is_made_once_and_anew_when_its_images_change(place, typed):
    words = ("fit", "timm:resnet10t@mine.pth", "--id", "data/train", "--scorer", "energy", "--out", "d.ood", "--quiet")
    words += ("--held-out", "data/val", "--accept", "0.9")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = typed(detect, *words)
    assert first.code == 0 and "fitted on 18 images, accepts 90.5 % (69.6 to 98.8) of 21 held-out images" in first.out
    assert "done already" in typed(detect, *words).err
    (place / "data/val/cat/0.png").unlink()
    assert "of 20 held-out images" in typed(detect, *words).out


def test_what_is_missing_or_wrong_is_one_line(place, typed, finished):
    refused = {
        "--id is required for timm:resnet10t": ("fit", "timm:resnet10t@mine.pth", "--out", "d.ood"),
        "fc.weight is 3 x 512 there, 4 x 512 here": (
            "fit",
            "timm:resnet10t@mine.pth",
            "--id",
            "data",
            "--classes",
            "names.txt",
            "--out",
            "d.ood",
        ),
        "--classes is for timm": ("fit", finished("c.pt"), "--classes", "names.txt", "--out", "d.ood"),
        "no checkpoint at none.pt": ("fit", "none.pt", "--out", "d.ood"),
        "no detector at none.ood": ("score", "none.ood", "inbox", "--csv", "out.csv"),
        "mine.pth is not a detector": ("score", "mine.pth", "inbox", "--csv", "out.csv"),
    }
    (place / "names.txt").write_text("cat\ndog\nfox\nowl\n")
    for text, words in refused.items():
        said = typed(detect, *words)
        assert said.code == 2 and said.err.strip().splitlines()[-1].startswith("error: "), said
        assert text in said.err or ("classes names 4" in text and "3 x 512 there, 4 x 512 here" in said.err), said.err
    assert not (place / "d.ood").exists() and not (place / "out.csv").exists()


def test_classes_are_those_of_the_folders_or_of_the_list_of_the_training_images(place):
    assert detect.folders_of("data") == detect.folders_of("folder:data/train") == ["cat", "dog", "fox"]
    (place / "list.txt").write_text("data/train/fox/0.png 1\ndata/train/cat/0.png 0\n")
    assert detect.folders_of("list:list.txt") == ["0", "1"]
    (place / "classes.txt").write_text("cat\nfox\ndog")
    assert detect.folders_of("list:list.txt") == ["cat", "fox", "dog"]
    (place / "list.txt").write_text("data/train/fox/0.png")
    for given in ("list:list.txt", "names.txt"):
        with pytest.raises(UserError, match="^--classes is required: "):
            detect.folders_of(given)
