"""What tests of commands share."""

import sys

import pytest
import torch

from common.backbones import build
from common.checkpoint import save
from common.cli.errors import command
from common.data import shapes


@pytest.fixture
def typed(monkeypatch, capsys):
    """typed(module, *words) -> (exit code, stdout, stderr)"""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
        code = 0
        try:
            command(module.main)
        except SystemExit as stop:
            code = stop.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def finished(tmp_path):
    """finished(name, outputs, **facts) -> path of a finished checkpoint of a small network of `shapes`, not trained"""

    def make(name, outputs=8, **facts):
        torch.manual_seed(0)
        known = {"method": "m", "id_set": "shapes", "classes": list(shapes.CLASSES), "seed": 0, "limit": 64}
        known |= {"transform": {"size_px": 48, "rule": "none"}, "train_data_sha256": "x", "start": "from scratch"}
        save(tmp_path / name, build("resnet8", outputs, image_size=48), recipe={"epochs": 1}, **known | facts)
        return tmp_path / name

    return make
