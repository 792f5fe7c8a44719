"""Features of the vanilla and of the DFB network side by side, as a person types it."""

import sys
from pathlib import Path

import torch

from common.backbones import build
from common.checkpoint import save
from common.data import shapes
from common.results import style
from dfb import tsne


def finished(path: Path, classes: int = 8, **facts) -> Path:
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
    save(path, build("resnet8", classes, image_size=48), recipe={"epochs": 1}, **known, **made, **facts)
    return path


def test_two_panels_name_network_seed_and_knn_auroc(tmp_path, monkeypatch):
    vanilla, kept = finished(tmp_path / "vanilla.pt"), []
    dense = finished(tmp_path / "dfb.pt", classes=9, extra_classes=1)
    monkeypatch.setattr(tsne, "save", lambda figure, path: kept.append(figure) or style.save(figure, path))
    words = [
        str(dense),
        "--vanilla",
        str(vanilla),
        "--ood",
        "shapes-noise",
        "--limit",
        "80",
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    monkeypatch.setattr(sys, "argv", ["dfb.tsne", *words])
    tsne.main()
    heads = [axis.get_title() for axis in kept[0].axes]
    assert [head.split(",")[0] for head in heads] == ["vanilla", "DFB"] and all(
        "resnet8, seed 0; KNN AUROC" in head for head in heads
    )
    points = [sum(len(group.get_offsets()) for group in axis.collections) for axis in kept[0].axes]
    assert points == [120, 120], "80 ID images and half as many OOD images"
