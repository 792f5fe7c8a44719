"""docs/adding.md on objectives, backbones and data sets: its code and its command as they stand. The scorer's part: tests/common/scorers/test_adding.py."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import checkpoint, data, pretrain
from common.backbones import BACKBONES, build
from common.cli.errors import UserError
from common.data.datasets import SPECS
from common.objectives import METHODS, presets_for
from common.training.method import Method

PAGE = (Path(__file__).parents[1] / "docs" / "adding.md").read_text()


def blocks(section: str, language: str = "python") -> list[str]:
    text = PAGE.split(f"# Adding {section}\n")[1].split("\n# Adding ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def typed(monkeypatch, *words):
    monkeypatch.setattr(
        sys, "argv", ["common.pretrain", *map(str, words), "--quiet", "--limit", "64", "--batch-size", "32"]
    )
    pretrain.main()


def test_the_objective_is_trained_by_the_pages_command_and_by_its_line(monkeypatch, tmp_path):
    code, line = blocks("an objective")
    (tmp_path / "short.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = shlex.split(blocks("an objective", "bash")[0])
    assert words[:3] == ["python", "-m", "common.pretrain"]
    typed(monkeypatch, *words[3:])
    model, facts = checkpoint.load_finished(tmp_path / "runs/short/checkpoint.pt")
    assert facts["method"] == "ShortLogits" and facts["recipe"]["weight"] == 0.1
    before = dict(METHODS)
    try:
        names = {"METHODS": METHODS, "Method": Method, "presets_for": presets_for}
        exec(line, names | {"ShortLogits": sys.modules["short"].ShortLogits})
        typed(monkeypatch, "shapes", "--objective", "short", "--weight", 0.1, "--epochs", 1, "--out", tmp_path / "own")
    finally:
        METHODS.clear()
        METHODS.update(before)
        sys.modules.pop("short")
    again, facts = checkpoint.load_finished(tmp_path / "own/checkpoint.pt")
    assert facts["method"] == "short" and checkpoint.weights_digest(again) == checkpoint.weights_digest(model)


def test_the_backbone_is_built_and_trained_by_name(monkeypatch, tmp_path):
    before = dict(BACKBONES)
    try:
        exec(blocks("a backbone")[0], {})
        shape = build("tiny", 5, image_size=48).eval().feature_map(torch.zeros(1, 3, 48, 48)).shape
        typed(monkeypatch, "shapes", "--backbone", "tiny", "--epochs", 1, "--out", tmp_path / "run")
        model, _ = checkpoint.load_finished(tmp_path / "run/checkpoint.pt")
    finally:
        BACKBONES.clear()
        BACKBONES.update(before)
    assert shape == (1, 24, 6, 6) and "6 x 6 map at 48 px" in blocks("a backbone")[0]
    assert model.name == "tiny" and model.classes == 8


def test_the_data_set_is_read_by_name_and_its_count_is_checked(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = np.random.default_rng(k).integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{k}.png")
    before = dict(SPECS)
    try:
        exec(blocks("a data set")[0], {})
        images = data.load("pets", "train", root=tmp_path)
        assert (len(images), images.classes, images.size_px) == (6, ("cats", "dogs"), (32, 32))
        assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
        (tmp_path / "pets/test/cats/0.png").unlink()
        with pytest.raises(UserError, match="pets test has 3 images, expected 4"):
            data.load("pets", "test", root=tmp_path)
    finally:
        SPECS.clear()
        SPECS.update(before)
