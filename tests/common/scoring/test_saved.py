"""A detector's file: whole or refused, and of the network that it was made of."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from common.cli.errors import UserError
from common.cli.tensors import Damaged
from common.scoring import Detector, saved


def net(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.fixture
def file(tmp_path):
    how = {"classes": ["a", "b", "c"], "size_px": 16, "mean": 0.5, "std": 0.5, "scorer": "react:percentile=80"}
    d = (
        Detector.from_module(net(), device="cpu", **how)
        .fit(torch.rand(9, 3, 16, 16))
        .calibrate(torch.rand(9, 3, 16, 16))
    )
    d.save(tmp_path / "d.ood")
    return tmp_path / "d.ood"


def test_what_it_says_is_what_it_was(file):
    d = Detector.load(file, net(), device="cpu")
    assert d.facts == Detector.load(file, net(), device="cpu").facts
    assert repr(d.scorer) == "ReAct(percentile=80.0, c=None)" and d.scorer_name == "react:percentile=80"
    assert saved.read(file)[1]["calibrated"] == d.facts["calibrated"] and d.facts["fitted"]["count"] == 9


def test_weights_of_the_file_count_and_not_those_of_the_module_given(file):
    other = net()
    other[4].weight.data.zero_()
    images = torch.rand(4, 3, 16, 16)
    scores = [Detector.load(file, one, device="cpu").score(images) for one in (net(), other)]
    assert (scores[0] == scores[1]).all() and (other[4].weight == 0).all()


def test_another_architecture_of_the_same_tensors_is_refused(file):
    with pytest.raises(UserError, match="does not answer as it did when it was saved"):
        Detector.load(file, net(nn.Tanh))
    with pytest.raises(UserError, match=r"Detector.load\(path, net\)"):
        Detector.load(file)
    with pytest.raises(
        UserError, match=r"4.weight is torch.float32 \(3, 8\) in the file, torch.float32 \(4, 8\) in it"
    ):
        Detector.load(file, nn.Sequential(*net()[:4], nn.Linear(8, 4)))


def test_a_file_that_is_cut_changed_or_foreign_is_refused(file, tmp_path):
    whole, bad = file.read_bytes(), tmp_path / "bad.ood"
    changed = [whole[:-7], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"", b"PK" + whole]
    for content in changed:
        bad.write_bytes(content)
        with pytest.raises(Damaged, match="bad.ood is"):
            saved.read(bad)
    with safe_open(file, "pt") as opened:
        header, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}
    said = json.loads(header["said"])
    said["calibrated"]["threshold"] += 1
    save_file(tensors, bad, header | {"said": json.dumps(said)})
    with pytest.raises(Damaged, match="SHA-256 differs"):
        saved.read(bad)
    save_file(tensors, bad)
    with pytest.raises(Damaged, match="is not a detector saved by this suite"):
        saved.read(bad)
    with pytest.raises(UserError, match="no detector at"):
        saved.read(tmp_path / "none.ood")
    with pytest.raises(Damaged, match="is a folder"):
        saved.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Damaged, match="a pipe or a socket"):
        saved.read(tmp_path / "pipe")
