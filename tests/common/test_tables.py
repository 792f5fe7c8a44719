"""The command that makes tables: refusals, files, and that it knows when it is done."""

import csv
from pathlib import Path

from common import tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results/quickstart/unconverged/seed-0/lbf.csv"
PRINTED = ROOT / "lbf/paper/table1.csv"


def test_a_printed_table_is_written_in_three_forms_and_not_again(typed, tmp_path):
    files = [tmp_path / name for name in ("t.md", "t.csv", "t.tex")]
    words = (RESULTS, "--paper", PRINTED, "--out", files[0], "--csv", files[1], "--latex", files[2])
    code, out, _ = typed(tables, *words)
    times = [path.stat().st_mtime_ns for path in files]
    assert code == 0 and files[0].read_text() == out and "\\toprule" in files[2].read_text()
    assert len(list(csv.DictReader(open(files[1])))) > 100
    assert typed(tables, *words)[1] == out and [path.stat().st_mtime_ns for path in files] == times
    files[2].unlink()
    assert typed(tables, *words)[1] == out and files[2].exists()


def test_other_rows_make_another_table(typed, tmp_path):
    copy, out = tmp_path / "results.csv", tmp_path / "t.md"
    copy.write_text(RESULTS.read_text())
    _, first, _ = typed(tables, copy, "--out", out)
    copy.write_text(RESULTS.read_text().replace("LBF,", "renamed,"))
    _, second, _ = typed(tables, copy, "--out", out)
    assert "| renamed " in second and "| renamed " not in first and out.read_text() == second


def test_what_does_not_fit_together_is_refused(typed, tmp_path):
    assert typed(tables, RESULTS, "--csv", tmp_path / "t.csv")[::2] == (
        2, "error: --csv and --extra need --paper with a printed table\n",
    )  # fmt: skip
    assert (
        "extra must be METHOD/SCORER, got control"
        in typed(tables, RESULTS, "--paper", PRINTED, "--extra", "control")[2]
    )
    assert typed(tables, RESULTS, "--paper", tmp_path / "none.csv")[0] == 2
    assert "is not there as this line expects it" in typed(tables, RESULTS, "--expect", f"{RESULTS}=1", "--wait", 0)[2]
    assert not list(tmp_path.iterdir())


def test_own_tables_are_written_for_latex_with_what_is_gained_over_the_control(typed, tmp_path):
    files = [RESULTS, RESULTS.with_name("control.csv")]
    code, out, _ = typed(tables, *files, "--latex", tmp_path / "own.tex")
    text = (tmp_path / "own.tex").read_text()
    assert (
        code == 0
        and "| LBF - control (not converged) | msp " in out
        and "LBF - control (not converged) & msp & " in text
        and text.count("toprule") == 3
    )
    assert "paired must be 0 or >= 100, got 5" in typed(tables, *files, "--paired", 5)[2]
