"""Commands that draw or tabulate what is there: asked again they do nothing, and what is asked otherwise or made of other inputs is made again."""

import csv
import json
from pathlib import Path

import pytest
import torch

from common.backbones import build
from common.checkpoint import save
from common.data import shapes
from common.results.rows import COLUMNS
from dfb import ablation, classes, temperature
from dfb import figures as dfb_figures
from dfb import tsne as dfb_tsne
from lbf import bars, selection, sensitivity
from lbf import figures as lbf_figures
from lbf import tsne as lbf_tsne

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def typed(typed, monkeypatch, tmp_path):
    """typed(module, words), in a folder of its own, and without the seconds of a t-SNE and a whole scan"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("common.results.tsne.embed", lambda groups: [group.vectors[:, :2] for group in groups])
    monkeypatch.setattr(temperature, "T_GRID", (1.0, 2.5))

    def run(module, words):
        said = typed(module, *words)
        assert said.code == 0, said.err
        return said

    return run


def network(path: Path, seed: int = 0, classes: int = 8, **facts) -> None:
    """A finished checkpoint of a small network, not trained."""
    torch.manual_seed(seed)
    known = {"method": path.parent.name, "id_set": "shapes", "classes": list(shapes.CLASSES), "seed": 0, "limit": 64}
    known |= {"transform": {"size_px": 48, "rule": "none"}, "train_data_sha256": "x"} | facts
    path.parent.mkdir(exist_ok=True)
    save(path, build("resnet8", classes, image_size=48), recipe={}, **known)


def rows(path: Path, auroc: float = 0.75, **columns) -> None:
    path.parent.mkdir(exist_ok=True)
    given = {
        "seed": 0,
        "benchmark": False,
        "protocol": "own",
        "scorer": "energy",
        "auroc": auroc,
        "fpr95": 0.5,
        "id_accuracy": 0.9,
    }
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="1")
        writer.writeheader()
        writer.writerow(
            given
            | {"id_set": "shapes", "ood_set": "shapes-noise", "backbone": "resnet8", "benchmark": "True"}
            | columns
        )


def pair(seed: int = 0) -> None:
    network(Path("pre/c.pt"), seed)
    network(Path("dfb/c.pt"), seed, classes=9, extra_classes=1)


def logged(seed: int = 0) -> None:
    network(Path("pre/checkpoint.pt"), seed)
    rows(Path("pre/results.csv"))
    line = {"epoch": 0, "ce": 1.0, "lff": 1.0, "selected_share": 0.5, "norm_selected": 1.0, "norm_others": None}
    Path("pre/log.jsonl").write_text(json.dumps(line) + "\n")


def lbf_rows(seed: int = 0) -> None:
    rows(Path("run/results.csv"), 0.75 + seed / 10, recipe=json.dumps({"delta": 0.1, "mu": 1.0, "lam": 1.0}))


def paper_rows(seed: int = 0) -> None:
    rows(Path("run/results.csv"), 0.75 + seed / 10, method="LBF", id_set="cifar10", ood_set="svhn", backbone="resnet18")


def dfb_rows(seed: int = 0) -> None:
    rows(Path("run/results.csv"), 0.75 + seed / 10, method="DFB, S_h alone", id_set="imagenet1k:C=100,seed=0")


FEW = ("--limit", 24, "--device", "cpu", "--quiet")
OOD, MORE = ("--ood", "shapes-noise"), ("--ood", "shapes-textures")
PAIR = ("dfb/c.pt", "--vanilla", "pre/c.pt", *FEW)
RESULTS, PRINTED = "run/results.csv", ROOT / "lbf/paper/table1.csv"
T_SNE = (*FEW, "--limit", 80)
LOGGED = [f"{name}.{kind}" for name in ("heat_maps", "norms", "curves") for kind in ("png", "pdf")] + ["norms.json"]
# command, what it reads, how it is typed, how otherwise, files
CASES = [
    (lbf_figures, logged, ("pre", *FEW, "--out", "f"), ("--limit", 16), LOGGED),
    (selection, pair, ("pre/c.pt", *FEW, "--out", "f/s.csv", "--figure", "f/s"), ("--deltas", 0.5, 0.25), ["s.csv", "s.png", "s.pdf"]),
    (lbf_tsne, pair, ("pre/c.pt", *T_SNE, *OOD, "--out", "f"), MORE, ["t-sne.png", "t-sne.pdf", "t-sne.json"]),
    (bars, paper_rows, (RESULTS, "--paper", PRINTED, "--out", "f"), ("--paper", ROOT / "lbf/paper/table3.csv"), ["bars.png", "bars.pdf"]),
    (sensitivity, lbf_rows, (RESULTS, "--out", "f/s"), None, ["s.png", "s.pdf", "s.md"]),
    (dfb_figures, pair, (*PAIR, *OOD, "--out", "f"), MORE, ["attention.png", "attention.pdf", "scores.png", "scores.pdf"]),
    (dfb_tsne, pair, (*PAIR, *T_SNE, *OOD, "--out", "f"), MORE, ["t-sne-dfb.png", "t-sne-dfb.pdf"]),
    (temperature, pair, (*PAIR, *OOD, "--scorers", "energy", "--out", "f"), ("--log-guard", "softplus"),
     ["temperature.png", "temperature.pdf", "temperature.csv"]),
    (ablation, dfb_rows, (RESULTS, "--out", "f/a.md"), ("--metrics", "fpr95", "auroc"), ["a.md"]),
    (classes, dfb_rows, (RESULTS, "--out", "f"), None, ["classes.png", "classes.pdf"]),
]  # fmt: skip


@pytest.mark.parametrize("module, inputs, words, otherwise, files", CASES, ids=[case[0].__name__ for case in CASES])
def test_it_is_made_once_and_again_when_asked_otherwise_or_of_other_inputs(
    module, inputs, words, otherwise, files, typed
):
    inputs()
    made = lambda: {path.name: path.stat().st_ino for path in Path("f").iterdir() if path.name[0] != "."}  # noqa: E731
    first, before = typed(module, words), made()
    assert before.keys() == set(files) and "done already" not in first.err
    again = typed(module, words)
    assert again.out == first.out and "done already" in again.err and made() == before
    if otherwise:
        typed(module, (*words, *otherwise))
        assert not made().items() & before.items(), "all of it, by another flag"
        before = made()
        assert "done already" in typed(module, (*words, *otherwise)).err and made() == before
    inputs(seed=1)
    assert "done already" not in typed(module, (*words, *(otherwise or ()))).err
    assert not made().items() & before.items(), "all of it, of other inputs"


def test_a_table_that_is_not_written_is_made_each_time(typed):
    dfb_rows()
    pair()
    for module, words in ((ablation, (RESULTS,)), (selection, ("pre/c.pt", *FEW))):
        first, second = typed(module, words), typed(module, words)
        assert first.out == second.out != "" and "done already" not in second.err
    assert not list(Path(".").rglob(".*"))
