"""The command that makes tables: refusals, files, and that it knows when it is done."""

import csv
from functools import partial
from pathlib import Path

import pytest

from common import tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results/quickstart/seed-0/lbf.csv"
PRINTED = ROOT / "lbf/paper/table1.csv"


@pytest.fixture
def typed(typed):
    return partial(typed, tables)


def test_a_printed_table_is_written_in_three_forms_and_not_again(typed, tmp_path):
    files = [tmp_path / name for name in ("t.md", "t.csv", "t.tex")]
    words = (RESULTS, "--paper", PRINTED, "--out", files[0], "--csv", files[1], "--latex", files[2])
    code, out, _ = typed(*words)
    times = [path.stat().st_mtime_ns for path in files]
    assert code == 0 and files[0].read_text() == out and "\\toprule" in files[2].read_text()
    assert len(list(csv.DictReader(open(files[1])))) > 100
    assert typed(*words)[1] == out and [path.stat().st_mtime_ns for path in files] == times
    files[2].unlink()
    assert typed(*words)[1] == out and files[2].exists()


def test_other_rows_make_another_table(typed, tmp_path):
    copy, out = tmp_path / "results.csv", tmp_path / "t.md"
    copy.write_text(RESULTS.read_text())
    _, first, _ = typed(copy, "--out", out)
    copy.write_text(RESULTS.read_text().replace("LBF,", "renamed,"))
    _, second, _ = typed(copy, "--out", out)
    assert "| renamed " in second and "| renamed " not in first and out.read_text() == second


def test_what_does_not_fit_together_is_refused(typed, tmp_path):
    assert typed(RESULTS, "--csv", tmp_path / "t.csv")[::2] == (
        2, "error: --csv, --latex and --extra need --paper with a printed table\n",
    )  # fmt: skip
    assert "extra must be METHOD/SCORER, got control" in typed(RESULTS, "--paper", PRINTED, "--extra", "control")[2]
    assert typed(RESULTS, "--paper", tmp_path / "none.csv")[0] == 2
    assert "is not there as this line expects it" in typed(RESULTS, "--expect", f"{RESULTS}=1", "--wait", 0)[2]
    assert not list(tmp_path.iterdir())
