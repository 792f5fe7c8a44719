"""Rows of results as a table: one line a method and scorer, one column an OOD set, mean +- std over seeds.

python -m common.tables runs/*/results.csv
python -m common.tables runs/*/results.csv --paper lbf/paper/table1.csv --csv table1.csv --latex table1.tex    # a printed table with ours in it
"""

import argparse
import sys
from pathlib import Path

from common.cli.errors import UserError, command
from common.results import paper
from common.results.rows import read_rows
from common.results.tables import METRICS, beside_paper, read_paper, show


def main() -> None:
    made = argparse.ArgumentParser(
        prog="python -m common.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("results", nargs="+", type=Path, help="CSV files of common.evaluate or dfb.evaluate")
    made.add_argument(
        "--metrics",
        nargs="+",
        choices=list(METRICS),
        default=["fpr95", "auroc"],
        help="what each cell shows [fpr95 auroc]",
    )
    made.add_argument("--out", type=Path, default=None, metavar="FILE", help="write the Markdown there too")
    made.add_argument(
        "--paper",
        type=Path,
        default=None,
        metavar="PATH",
        help="a printed table (lbf/paper/table1.csv): all of it with ours beside; or a folder of them: the cells that both have",
    )
    made.add_argument(
        "--extra",
        nargs="+",
        default=[],
        metavar="METHOD/SCORER",
        help="with a printed table: rows of ours that the paper does not have",
    )
    made.add_argument(
        "--csv", type=Path, default=None, metavar="FILE", help="with a printed table: one line a cell, all digits"
    )
    made.add_argument(
        "--latex", type=Path, default=None, metavar="FILE", help="with a printed table: for \\input in LaTeX"
    )
    arguments = made.parse_args()
    rows = read_rows(arguments.results)
    text, files = show(rows, arguments.metrics), {}
    if arguments.paper and arguments.paper.is_dir():
        if beside := beside_paper(rows, read_paper(arguments.paper), arguments.metrics):
            text += "\n\n" + beside
    elif arguments.paper:
        text, files = whole_table(arguments, rows, text)
    elif arguments.csv or arguments.latex or arguments.extra:
        raise UserError("--csv, --latex and --extra need --paper with a printed table")
    print(text)
    for path, content in {arguments.out: text + "\n", **files}.items():
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            print(f"\n{path}", file=sys.stderr)


def whole_table(
    arguments: argparse.Namespace, rows: list[dict[str, str]], own: str
) -> tuple[str, dict[Path | None, str]]:
    """The printed table with ours in it, our own rows where some have no place there, and the files to write."""

    extra = [tuple(word.rsplit("/", 1)) for word in arguments.extra]
    if any(len(pair) != 2 for pair in extra):
        raise UserError(f"extra must be METHOD/SCORER, got {' '.join(arguments.extra)}")
    found = paper.join(paper.read_printed(arguments.paper), rows, extra)
    said = paper.left_out(found, rows)
    text = (
        paper.as_markdown(found)
        + f"\n\n{paper.trained_as(rows)}"
        + (f"\n\n{said}\n\nAll rows of ours:\n\n{own}" if said else "")
    )
    return text, {arguments.csv: paper.as_csv(found), arguments.latex: paper.as_latex(found)}


if __name__ == "__main__":
    command(main)
