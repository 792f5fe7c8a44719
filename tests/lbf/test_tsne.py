"""The picture of pooled and local features as a person types it: files, numbers, refusals."""

import json
import sys
from pathlib import Path

import pytest
import torch

from common.backbones import build
from common.checkpoint import save
from common.cli.errors import UserError
from common.data import shapes
from lbf import tsne


def finished(path: Path) -> Path:
    """A finished checkpoint of a small network, not trained."""
    torch.manual_seed(0)
    known = {
        "method": "m",
        "id_set": "shapes",
        "classes": list(shapes.CLASSES),
        "transform": {"size_px": 48, "rule": "none"},
        "limit": 64,
    }
    made = {
        "seed": 0,
        "train_data": "shapes",
        "train_data_sha256": "x",
        "data_facts": {},
        "preset": "shapes",
        "start": "from scratch",
    }
    save(path, build("resnet8", 8, image_size=48), recipe={"epochs": 1}, **known, **made)
    return path


def test_the_command_writes_the_picture_and_the_numbers_in_its_titles(tmp_path, monkeypatch):
    path = finished(tmp_path / "checkpoint.pt")
    words = [str(path), "--ood", "shapes-noise", "--limit", "40", "--delta", "0.2", "--out", str(tmp_path), "--quiet"]
    monkeypatch.setattr(sys, "argv", ["lbf.tsne", *words])
    tsne.main()
    numbers = json.loads((tmp_path / "t-sne.json").read_text())
    counts = numbers["n"]
    assert numbers["delta"] == 0.2 and counts["ID shapes, by class"] == counts["OOD shapes-noise"] == 40
    local = [count for name, count in counts.items() if name.startswith("local")]
    assert 0 < sum(local) and max(local) <= tsne.POINTS
    for said in ("as they are", "scaled to length 1"):
        assert all(share is None or 0 <= share <= 1 for share in numbers[said].values()) and len(numbers[said]) == 2
    assert (tmp_path / "t-sne.png").exists() and (tmp_path / "t-sne.pdf").exists()


def test_a_draw_of_rows_is_seeded_by_its_use():
    rows = torch.arange(1000.0)[:, None]
    assert (
        torch.equal(tsne.draw_rows(rows, "a"), tsne.draw_rows(rows, "a"))
        and len(tsne.draw_rows(rows, "a")) == tsne.POINTS
    )
    assert not torch.equal(tsne.draw_rows(rows, "a"), tsne.draw_rows(rows, "b"))


def test_the_id_set_cannot_stand_for_the_ood_set(tmp_path, monkeypatch):
    words = [str(finished(tmp_path / "checkpoint.pt")), "--ood", "shapes", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["lbf.tsne", *words])
    with pytest.raises(UserError, match="^shapes is the in-distribution set itself"):
        tsne.main()
