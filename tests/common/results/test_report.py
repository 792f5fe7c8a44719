"""The page: whole in itself, well formed, its words escaped, its gallery showing the right images."""

import csv
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from result_rows import result_row

from common.backbones import build
from common.checkpoint import save
from common.cli.errors import command
from common.cli.files import write_json
from common.data import load
from common.report import main
from common.results.report import chosen, overview

VOID = {"meta", "img", "link", "br"}


class Checker(HTMLParser):
    """Every tag closed in order; collects what would be loaded."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A scored run whose method has a name to be escaped."""
    folder, images = tmp_path_factory.mktemp("runs") / "first", load("shapes", "train", root=Path("."), limit=64)
    torch.manual_seed(0)
    model = build("resnet8", 8, image_size=48)
    facts = {
        "method": "a <b> & c",
        "id_set": "shapes",
        "classes": list(images.classes),
        "transform": {"size_px": 48, "rule": "none"},
        "limit": 64,
        "seed": 0,
    }
    facts |= {
        "train_data": "shapes",
        "train_data_sha256": images.digest,
        "data_facts": {},
        "preset": "shapes",
        "start": "from scratch",
    }
    from common import evaluate

    save(folder / "checkpoint.pt", model, recipe={"epochs": 1}, **facts)
    (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 1.0, "train_accuracy": 0.5}\n')
    call(
        evaluate.main,
        [str(folder / "checkpoint.pt"), "--ood", "shapes-noise", "--scorers", "energy", "--limit", "20", "--quiet"],
    )
    return folder


def call(main_, words):
    before, sys.argv = sys.argv, ["command", *words]
    try:
        command(main_)
    finally:
        sys.argv = before


def test_the_page_holds_everything_is_well_formed_and_says_the_numbers(run, tmp_path):
    call(main, [str(run), "--out", str(tmp_path / "page.html"), "--limit", "20", "--quiet"])
    text = (tmp_path / "page.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.open and checker.loaded and all(value.startswith("data:") for value in checker.loaded)
    assert "a &lt;b&gt; &amp; c" in text and "a <b>" not in text and "http" not in re.sub('data:[^"]*', "", text)
    (row,) = csv.DictReader(open(run / "results.csv", newline=""))
    assert f">{100 * float(row['auroc']):.2f}<" in text and row["checkpoint_sha256"] in text
    assert text.count("above ") == 16, "eight images of each of the two sets"


def test_the_gallery_takes_the_images_of_the_rows_and_says_where_they_stand():
    images = load("shapes", "test", root=Path("."), limit=10)
    scores = np.arange(10.0)
    first, last = chosen(images, scores, np.array([9, 0]), inside=scores)
    assert (
        np.array_equal(first.pixels, images.pixels[9].permute(1, 2, 0).numpy())
        and (first.row, first.share) == (9, 1.0)
        and last.share == 0.1
    )


def test_the_page_is_made_once_and_again_when_a_run_a_figure_or_a_flag_changes(run, tmp_path, capsys):
    folder, out = tmp_path / "run", tmp_path / "page.html"
    shutil.copytree(run, folder)

    def made(*flags) -> bool:
        call(main, [str(folder), "--out", str(out), "--limit", "20", "--scorer", "none", "--quiet", *flags])
        said = capsys.readouterr()
        assert said.out == f"{out}\n"
        return "done already" not in said.err

    assert made() and not made()
    assert made("--limit", "10") and made()
    (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2.0, "train_accuracy": 0.5}\n')
    assert made() and not made()
    (folder / "figures").mkdir()
    (folder / "figures/a.png").write_bytes(b"a figure")
    assert made() and not made()
    write_json(folder / "recipe.json", {"recipe": {"lr": 0.1}, "seed": 0, "objective": "LBF", "data": "d"})
    assert made() and not made()
    for name in ("results.csv", "recipe.json", "checkpoint.pt"):
        shutil.copy(run / "checkpoint.pt", folder / "checkpoint.pt")
        with open(folder / name, "a") as file:
            file.write("\n")
        assert made("--scorer", "none") and not made(), name


def test_a_run_without_results_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        call(main, [str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert (
        stop.value.code == 2
        and "has no results.csv" in capsys.readouterr().err
        and not (tmp_path / "page.html").exists()
    )


def test_a_browser_finds_no_error(run, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    call(main, [str(run), "--out", str(tmp_path / "page.html"), "--scorer", "none", "--quiet"])
    words = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        f"file://{tmp_path / 'page.html'}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr and "<button>" in done.stdout, "the script ran to its end: headings are buttons"


def test_the_first_table_has_the_average_and_each_set_that_is_reported_apart():
    sets = {"shapes-objects": 0.6, "shapes-noise": 0.8, "cifar10:encode=jpeg75": 0.1}
    rows = [result_row(id_set="shapes", ood_set=name, auroc=auroc, fpr95=0.5) for name, auroc in sets.items()]
    (found,) = overview(rows, {})
    assert found["columns"][2:] == ["FPR95 %", "AUROC %", "ID acc. %", "shapes-objects*"]
    assert found["sets"] == ["shapes-noise"] and found["lines"][0][2:4] == ["50.00", "80.00"]
    assert found["lines"][0][5:] == ["50.00 / 60.00"] and found["apart"]
