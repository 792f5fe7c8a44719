import csv
import sys
from pathlib import Path

import pytest

from common.cli.errors import UserError
from common.results import style
from lbf import bars

PAPER = Path(__file__).resolve().parents[2] / "lbf/paper/table1.csv"


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """drawn(*words) -> the figure that the command would have saved."""

    def run(*words):
        kept = []
        monkeypatch.setattr(bars, "save", lambda figure, path: kept.append(figure) or style.save(figure, path))
        monkeypatch.setattr(sys, "argv", ["lbf.bars", *map(str, words), "--out", str(tmp_path)])
        bars.main()
        return kept[0]

    return run


def test_without_results_the_bars_are_the_papers_means_over_its_sets(drawn):
    """Not its printed averages, some of which are not those of its cells."""
    values = {}
    for row in csv.DictReader(PAPER.open()):
        if row["metric"] == "auroc" and row["ood_set"] != "average":
            values.setdefault((row["id_set"], row["printed"]), []).append(float(row["value"]))
    figure = drawn("--paper", PAPER)
    heights = [bar.get_height() for axis in figure.axes for bar in axis.patches]
    assert heights == pytest.approx([sum(cells) / len(cells) for cells in values.values()]) and len(heights) > 5
    assert all("axis from" in axis.get_ylabel() for axis in figure.axes), "it does not start at 0, and says so"


def test_a_table_without_auroc_is_refused(drawn, tmp_path):
    lines = PAPER.read_text().splitlines()
    (tmp_path / "few.csv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if ",auroc," not in line)]) + "\n"
    )
    with pytest.raises(UserError, match="^no average AUROC in .*few.csv$"):
        drawn("--paper", tmp_path / "few.csv")
