"""Rows of results as a table: one line a method and scorer, one column an OOD set, mean +- std over seeds.

python -m common.tables runs/*/results.csv
python -m common.tables runs/*/results.csv --paper lbf/paper/table1.csv --csv table1.csv --latex table1.tex    # a printed table with ours in it
"""

import argparse
import sys
from pathlib import Path

from common.cli import flags
from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import digest
from common.cli.steps import add_step_arguments, making
from common.metrics import check_repeats
from common.results import paper
from common.results.comparable import against_controls, last_epochs
from common.results.differences import read_scores
from common.results.rows import read_rows
from common.results.stale import stale
from common.results.tables import (
    METRICS,
    Marks,
    Printable,
    beside_paper,
    caption,
    latex,
    markdown,
    own_tables,
    read_paper,
    show,
)

VERSION = 4  # raised when the same rows give other text


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog("common.tables"), description=__doc__, formatter_class=flags.formatter)
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
        type=paper.table_path,
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
    made.add_argument("--latex", type=Path, default=None, metavar="FILE", help="for \\input in LaTeX")
    flags.add_paired_argument(made)
    add_step_arguments(made)
    return made


def own_table(
    rows: list[dict[str, str]],
    metrics: list[str],
    printed: list[dict[str, str]],
    gains: dict[str, Printable],
    marks: Marks,
) -> tuple[str, str, str]:
    """Our rows, what methods gain over their controls, and the printed cells that we have too; as Markdown and LaTeX."""
    own = {caption(name, metrics): table for name, table in own_tables(rows, metrics, marks).items()}
    beside = beside_paper(rows, printed, metrics) if printed else ""
    return "\n\n".join(filter(None, [show(rows, metrics, marks), *in_words(gains), beside])), "", latex(own | gains)


def in_words(tables: dict[str, Printable]) -> list[str]:
    return [f"{words}\n\n{markdown(*table)}" for words, table in tables.items()]


def printed_table(
    rows: list[dict[str, str]],
    metrics: list[str],
    printed: list[dict[str, str]],
    gains: dict[str, Printable],
    extra: list[tuple[str, ...]],
) -> tuple[str, str, str]:
    """A printed table with ours in it as Markdown, CSV and LaTeX; in the Markdown also what methods gain, and our own rows where some have no place
    there."""
    found = paper.join(printed, rows, extra)
    said = paper.left_out(found, rows)
    text = "\n\n".join([paper.as_markdown(found), paper.trained_as(rows), *in_words(gains)])
    if said:
        text += f"\n\n{said}\n\nAll rows of ours:\n\n{show(rows, metrics)}"
    return text, paper.as_csv(found), paper.as_latex(found)


def main() -> None:
    arguments = parser().parse_args()
    source, outputs, metrics = arguments.paper, [arguments.out, arguments.csv, arguments.latex], arguments.metrics
    whole = source is not None and not source.is_dir()
    if not whole and (arguments.csv or arguments.extra):
        raise UserError("--csv and --extra need --paper with a printed table")
    check_repeats(arguments.paired, "paired")
    extra = [tuple(word.rsplit("/", 1)) for word in arguments.extra]
    if any(len(pair) != 2 for pair in extra):
        raise UserError(f"extra must be METHOD/SCORER, got {' '.join(arguments.extra)}")
    written = [path for path in outputs if path]
    with making(written, arguments.results, expect=arguments.expect, wait_s=arguments.wait) as step:
        rows, warnings = read_rows(arguments.results), list(filter(None, map(stale, arguments.results)))
        printed = paper.read_printed(source) if whole else read_paper(source) if source else []
        raw, logs = read_scores(arguments.results) if arguments.paired else {}, last_epochs(arguments.results)
        made_of = {
            "rows": digest(rows),
            "printed": digest(printed),
            "metrics": metrics,
            "extra": extra,
            "stale": warnings,
            "logs": digest(logs),
        }
        made_of |= {"paired": arguments.paired, "raw": len(raw)}
        if step.is_done({"command": "common.tables", "version": VERSION, "whole": whole} | made_of):
            return
        gains, marks = against_controls(rows, raw, logs, metrics, arguments.paired)
        texts = (
            printed_table(rows, metrics, printed, gains, extra)
            if whole
            else own_table(rows, metrics, printed, gains, marks)
        )
        text = "\n\n".join([*warnings, texts[0]])
        for path, content in zip(outputs, (text + "\n", *texts[1:])):
            if path:
                write_atomically(path, lambda part, content=content: part.write_text(content))
        step.say(text)
    for path in written:
        print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    command(main)
