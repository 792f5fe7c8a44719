"""Printed tables with our numbers in them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from result_rows import result_row

from common.cli.errors import UserError
from common.results.paper import as_csv, as_latex, as_markdown, join, left_out, read_printed, table_path

ROOT = Path(__file__).resolve().parents[3]
PRINTED = """id_set,backbone,printed,method,scorer,ood_set,metric,value,note
cifar10,resnet34,MSP,pre-trained,msp,svhn,fpr95,40.00,
cifar10,resnet34,MSP,pre-trained,msp,isun,fpr95,50.00,
cifar10,resnet34,MSP,pre-trained,msp,average,fpr95,45.50,
cifar10,resnet34,VOS,reported,,svhn,fpr95,10.00,
cifar10,resnet34,VOS,reported,,isun,fpr95,,a dash
cifar10,resnet34,VOS,reported,,average,fpr95,12.00,
"""


@pytest.fixture
def printed(tmp_path):
    (tmp_path / "table.csv").write_text(PRINTED)
    return read_printed(tmp_path / "table.csv")


def row(ood_set: str, fpr95: float, seed: int = 0, **changes) -> dict:
    given = {"backbone": "resnet34", "method": "pre-trained", "scorer": "msp", "recipe": '{"epochs": 3}'}
    return result_row(**given | {"ood_set": ood_set, "fpr95": fpr95, "seed": seed} | changes)


def cells(tables) -> dict:
    (table,) = tables
    return {(key[0][0], key[1]): cell for key, cell in table.cells.items()}


def test_paper_ours_and_gap_with_mean_and_deviation_over_seeds(printed):
    rows = [row("svhn", 0.30), row("svhn", 0.34, seed=1), row("isun", 0.50), row("isun", 0.60, seed=1)]
    found = cells(join(printed, rows))
    assert found["MSP", "svhn"].text() == "40.00 -> 32.00 ± 2.83 (-8.00)"
    assert found["MSP", "average"].paper == 45.0, "recomputed: the printed 45.50 does not follow"
    assert (
        np.allclose(found["MSP", "average"].values, (40, 47))
        and found["MSP", "average"].text() == "45.00 -> 43.50 ± 4.95 (-1.50)"
    )
    assert found["MSP", "average"].note == "printed 45.50"
    assert (
        found["VOS", "svhn"].text() == "10.00"
        and found["VOS", "isun"].text() == "-"
        and found["VOS", "average"].text() == "-"
    )


def test_an_average_of_ours_needs_every_column_for_the_same_seeds(printed):
    assert cells(join(printed, [row("svhn", 0.3)]))["MSP", "average"].values == ()
    assert (
        cells(join(printed, [row("svhn", 0.3), row("svhn", 0.3, seed=1), row("isun", 0.5)]))["MSP", "average"].values
        == ()
    )


@pytest.mark.parametrize(
    "change", [{"benchmark": "False"}, {"backbone": "resnet18"}, {"ood_set": "isun:n=10"}, {"id_set": "shapes"}]
)
def test_what_is_not_the_benchmark_never_stands_beside_a_printed_number(printed, change):
    rows = [row("isun", 0.5) | change]
    tables = join(printed, rows)
    assert all(cell.values == () for cell in cells(tables).values())
    if "ood_set" not in change:
        assert "left out" in left_out(tables, rows)


def test_a_method_that_was_not_run_is_marked_and_ours_alone_comes_last(printed):
    tables = join(printed, [row("isun", 0.5, method="control")], [("control", "msp")])
    lines = [
        [part.strip() for part in line.split("|")[1:-1]]
        for line in as_markdown(tables).splitlines()
        if line.startswith("|")
    ]
    assert [line[:3] for line in lines[2:]] == [
        ["MSP", "msp", "reported"],
        ["VOS", "-", "reported"],
        ["control (ours only)", "msp", "1"],
    ]


def test_two_recipes_never_share_a_printed_row(printed):
    rows = [row("isun", 0.5), row("isun", 0.6, seed=1, recipe='{"epochs": 4}')]
    with pytest.raises(
        UserError,
        match="2 of ours for one row of a printed table: pre-trained, epochs 3 msp; pre-trained, epochs 4 msp",
    ):
        join(printed, rows)


def test_seeds_are_paired_by_seed_and_a_cell_of_fewer_seeds_says_so(printed):
    rows = [row("svhn", 0.1, seed=1), row("isun", 0.2), row("isun", 0.4, seed=1), row("svhn", 0.3)]
    assert np.allclose(cells(join(printed, rows))["MSP", "average"].values, (25, 25))
    text = as_markdown(join(printed, [*rows, row("isun", 0.6, seed=2)]))
    assert "50.00 -> 40.00 ± 20.00 (-10.00)" in text and "40.00 -> 20.00 ± 14.14 (n=2) (-20.00)" in text


def test_csv_has_all_digits_and_no_time_and_latex_every_cell(printed):
    tables = join(printed, [row("isun", 1 / 3, seconds=5.0)])
    lines = list(csv.DictReader(as_csv(tables).splitlines()))
    assert (
        lines[1]["ours_mean"] == repr(100 * (1 / 3))
        and lines[1]["n"] == "1"
        and "seconds" not in lines[0]
        and len(lines) == 6
    )
    assert as_csv(join(printed, [row("isun", 1 / 3, seconds=9.0)])) == as_csv(tables)
    assert r"50.00 $\to$ 33.33 (-16.67)" in as_latex(tables) and as_latex(tables).count(r"\\") == 3


COUNTS = {"lbf": (504, 68, 180, 60), "dfb": (195, 195, 50, 4)}


@pytest.mark.parametrize("method,number", [(method, number) for method in COUNTS for number in (1, 2, 3, 4)])
def test_every_printed_table_is_there_with_known_scores_and_sets(method, number):
    from common.data import SPECS
    from common.scorers import SCORERS

    found = read_printed(ROOT / method / "paper" / f"table{number}.csv")
    assert len(found) == COUNTS[method][number - 1]
    assert len({(c["id_set"], c["printed"], c["ood_set"], c["metric"]) for c in found}) == len(found)
    for cell in found:
        assert (
            cell["scorer"] in SCORERS
            or cell["method"] in ("reported", "background alone")
            or cell["metric"] == "id_accuracy"
        )
        assert cell["ood_set"] in SPECS or cell["ood_set"] in ("average", "")
        assert cell["value"] == "" or 0 <= float(cell["value"]) <= 100


@pytest.mark.parametrize("method,number", [(method, number) for method in COUNTS for number in (1, 2, 3, 4)])
def test_printed_numbers_equal_the_transcription(method, number):
    source = ROOT.parent / "shared" / "papers" / "tables" / f"{method}_table{number}.csv"
    if not source.exists():
        pytest.skip(f"no transcription of the papers' tables at {source}")
    names = {"aupr": "aupr_in", "accuracy": "id_accuracy", "LSUN-C": "lsun_crop", "LSUN-R": "lsun_resize"}
    plain = lambda text: "".join(letter for letter in text.lower() if letter.isalnum())  # noqa: E731
    given = [
        [
            plain(line["id_dataset"]),
            plain(line["method"]),
            plain(names.get(line["ood_dataset"], line["ood_dataset"])),
            names.get(line["metric"], line["metric"]),
            line["value"],
        ]
        for line in csv.DictReader(open(source, newline=""))
    ]
    ours = [
        [plain(cell["id_set"]), plain(cell["printed"]), plain(cell["ood_set"]), cell["metric"], cell["value"]]
        for cell in read_printed(ROOT / method / "paper" / f"table{number}.csv")
    ]
    assert ours == given, "the same cells in the same order"


def test_printed_tables_are_found_from_anywhere_and_ones_own_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        table_path("lbf/paper/table1.csv") == ROOT / "lbf/paper/table1.csv"
        and table_path("dfb/paper") == ROOT / "dfb/paper"
    )
    for text in ("lbf/paper/table9.csv", "paper/table1.csv", "lbf/loss.py", str(tmp_path / "lbf/paper")):
        assert table_path(text) == Path(text)
    (tmp_path / "lbf/paper").mkdir(parents=True)
    assert table_path("lbf/paper") == Path("lbf/paper")
