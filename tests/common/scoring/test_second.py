"""A score of two networks: DML+."""

import csv
import json

import numpy as np
import pytest
import torch

from common import evaluate
from common.backbones import build
from common.checkpoint import load_finished, save, weights_digest
from common.data import load
from common.data.shapes import CLASSES
from common.scorers import SCORERS
from common.scoring.features import extract

HOW = ("--ood", "shapes-noise", "--limit", 24, "--quiet", "--device", "cpu")


@pytest.fixture
def pair(tmp_path):
    """Two finished checkpoints, small and not trained; pair(name, role, seed, **facts)."""

    def make(name: str, role: str, seed: int, **facts):
        torch.manual_seed(seed)
        known = {
            "method": f"DML+ {role}",
            "id_set": "shapes",
            "classes": list(CLASSES),
            "seed": 0,
            "limit": 48,
            "score": "dml+",
        }
        known |= {"transform": {"size_px": 48, "rule": "none"}, "train_data_sha256": "x", "start": "from scratch"}
        recipe = {"epochs": 1} | ({"role": role} if role else {})
        save(tmp_path / name, build("resnet8", 8, image_size=48), recipe=recipe, **known | facts)
        return tmp_path / name

    return make


def test_rows_are_of_the_firsts_cosine_and_the_seconds_length_and_name_both(typed, pair, tmp_path):
    a, b = pair("a.pt", "direction", 0), pair("b.pt", "length", 1)
    code, _, err = typed(evaluate, a, "--second", b, "--scorers", "own", *HOW)
    assert code == 0, err
    (row,) = csv.DictReader((tmp_path / "results.csv").open())
    upstream = json.loads(row["upstream"])
    assert (row["method"], row["scorer"]) == ("DML+", "dml+") and row["checkpoint_sha256"] == weights_digest(
        load_finished(a)[0]
    )
    assert (
        upstream["second"]["weights_sha256"] == weights_digest(load_finished(b)[0])
        and upstream["second"]["role"] == "length"
    )
    first, second = load_finished(a)[0].eval(), load_finished(b)[0].eval()
    sets = {
        "train": load("shapes", "train", root=tmp_path, limit=48), "id": load("shapes", "test", root=tmp_path, limit=24),
        "shapes-noise": load("shapes-noise", "test", root=tmp_path, limit=24),
    }  # fmt: skip
    weight = first.head.weight.detach().double().numpy()
    parts = {}
    for name, images in sets.items():
        h, other = (extract(net, images, (), progress=False).penultimate.astype(float) for net in (first, second))
        unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
        parts[name] = (unit(h) @ unit(weight).T).max(1), np.linalg.norm(other, axis=1)
    cosine, norm = (part.mean() for part in parts["train"])
    with np.load(tmp_path / "results.npz") as raw:
        for name in ("id", "shapes-noise"):
            expected = parts[name][0] / cosine + parts[name][1] / norm
            np.testing.assert_allclose(raw[f"dml+/{name}"], expected, rtol=1e-5)


def test_another_second_network_is_another_result(typed, pair, tmp_path):
    a = pair("a.pt", "direction", 0)
    found = []
    for seed in (1, 2, 2):
        b = pair("b.pt", "length", seed)
        code, out, err = typed(evaluate, a, "--second", b, "--scorers", "dml+", *HOW)
        assert code == 0, err
        found.append((tmp_path / "results.csv").read_text())
    assert found[0] != found[1] and len(found[1].splitlines()) == 2, "it takes the place of the first"
    assert found[2] == found[1], "the same pair is done already"


@pytest.mark.parametrize("first, second, changes, said", [
    ("length", "direction", {}, "is of DML+ length; a pair is of dml-focal first and dml-centre as --second"),
    ("direction", "direction", {}, "is of DML+ direction; a pair is of"),
    ("", "length", {}, "is of DML+ ; a pair is of"),
    ("direction", "length", {"train_data_sha256": "y"}, "has another train_data_sha256 than"),
    ("direction", "length", {"limit": 40}, "has another limit than"),
    ("direction", "length", {"transform": {"size_px": 32, "rule": "none"}}, "has another transform than"),
    ("direction", "length", {"classes": list(reversed(CLASSES))}, "has another classes than"),
])  # fmt: skip
def test_networks_that_are_no_pair_are_refused(typed, pair, first, second, changes, said, tmp_path):
    a, b = pair("a.pt", first, 0), pair("b.pt", second, 1, **changes)
    code, _, err = typed(evaluate, a, "--second", b, "--scorers", "dml+", *HOW)
    assert code == 2 and said in err and err.count("\n") == 1 and not (tmp_path / "results.csv").exists()


def test_one_network_alone_and_scores_of_one_are_refused(typed, pair, tmp_path):
    a, b = pair("a.pt", "direction", 0), pair("b.pt", "length", 1)
    code, _, err = typed(evaluate, a, "--scorers", "own", *HOW)
    assert code == 2 and err.endswith("dml+ is a score of two networks: evaluate the first with --second CHECKPOINT\n")
    assert err.startswith("error: ") and err.count("\n") == 1
    code, _, err = typed(evaluate, a, "--second", b, "--scorers", "dml+", "msp", *HOW)
    assert (code, err) == (2, "error: --second is for dml+ alone; score msp without it\n")
    code, _, err = typed(evaluate, a, "--second", tmp_path / "none.pt", "--scorers", "dml+", *HOW)
    assert code == 2 and "none.pt" in err and err.count("\n") == 1
    np.savez(tmp_path / "mine.npz", id_logits=np.zeros((3, 2)))
    code, _, err = typed(evaluate, "--features", tmp_path / "mine.npz", "--second", b, "--scorers", "msp")
    assert code == 2 and "--second says how images pass" in err
    assert SCORERS["dml+"].train_needs == ("penultimate", "second_norm")
