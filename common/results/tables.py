"""Rows of results as a table: one line a method and scorer, one column an OOD set, mean +- std over seeds."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.errors import UserError
from common.results.lines import Column, Line, lines_of
from common.results.rows import method_of

METRICS = {"fpr95": "FPR95", "auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out"}
LATEX = {
    "->": r"$\to$", "±": r"$\pm$", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "<": "$<$", ">": "$>$", "$": r"\$", "{": r"\{", "}": r"\}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
Printable = tuple[Sequence[str], Sequence[Sequence[str]]]  # header and lines
Marks = dict[str, dict[str, str]]  # by ID set, by a line's name: what is to be said of it


def seeds_mean(values: Sequence[float]) -> str:
    """Percent with two decimals; of several seeds mean ± standard deviation (n - 1) and their number."""
    return said(values) + of_seeds(len(values))


def said(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.2f}"


def of_seeds(n: int) -> str:
    return f" (n={n})" if n > 1 else ""


def cell(line: Line, column: Column, metrics: Sequence[str]) -> str:
    """`FPR95 / AUROC` in percent over seeds; of one seed with its 95 % intervals, where evaluation drew them."""
    rows = list(line.cells.get(column, {}).values())
    if not rows:
        return "-"
    ends = [interval(rows[0], metric) if len(rows) == 1 else "" for metric in metrics]
    texts = [said([float(row[metric]) for row in rows]) + end for metric, end in zip(metrics, ends)]
    return " / ".join(texts) + of_seeds(len(rows))


def interval(row: dict[str, Any], metric: str) -> str:
    """The 95 % interval of a row's number in percent, "" where evaluation drew none."""
    low, high = (row.get(f"{metric}_{end}") for end in ("low", "high"))
    return f" [{100 * float(low):.2f}, {100 * float(high):.2f}]" if low and high else ""


def average_cell(line: Line, columns: Sequence[Column], metrics: Sequence[str]) -> str:
    found = [list(line.average(columns, metric).values()) for metric in metrics]
    return " / ".join(map(said, found)) + of_seeds(len(found[0])) if all(found) else "-"


def in_a_line(text: str) -> str:
    """As it stands in a table: what ends a line is spelt, whatever a set or a method is called."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are padded, so that it reads well on a screen too."""
    header, *lines = ([in_a_line(text).replace("|", r"\|") for text in row] for row in (header, *lines))
    widths = [max(len(row[i]) for row in (header, *lines)) for i in range(len(header))]
    align = [str.ljust if i < 2 else str.rjust for i in range(len(header))]
    draw = lambda row: "| " + " | ".join(a(text, w) for a, text, w in zip(align, row, widths)) + " |"  # noqa: E731
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([draw(header), rule, *map(draw, lines)])


def own_tables(
    rows: Sequence[dict[str, Any]], metrics: Sequence[str], marks: Marks | None = None
) -> dict[str, Printable]:
    """A table of each ID set."""
    return {
        id_set: _own_table([row for row in rows if row["id_set"] == id_set], metrics, (marks or {}).get(id_set, {}))
        for id_set in dict.fromkeys(row["id_set"] for row in rows)
    }


def _own_table(rows: Sequence[dict[str, Any]], metrics: Sequence[str], marks: dict[str, str]) -> Printable:
    columns, lines = lines_of(rows)
    header = ["method", "score", *(column.title for column in columns), "average", "ID accuracy"]
    body = [
        [with_mark(line.method, marks), line.scorer, *(cell(line, column, metrics) for column in columns), average_cell(line, columns, metrics),
         seeds_mean(list(line.accuracies().values()))]
        for line in lines
    ]  # fmt: skip
    return header, body


def with_mark(name: str, marks: dict[str, str]) -> str:
    """A line's name, and what is to be said of it (common.results.comparable)."""
    return f"{name} ({marks[name]})" if name in marks else name


def caption(id_set: str, metrics: Sequence[str]) -> str:
    return f"ID {id_set}; {' / '.join(METRICS[m] for m in metrics)} in percent; FPR95: share of OOD accepted at 95 % of ID accepted (lower is better)"


def show(
    rows: Sequence[dict[str, Any]], metrics: Sequence[str] = ("fpr95", "auroc"), marks: Marks | None = None
) -> str:
    """The table of each ID set: FPR95 (lower is better) and AUROC (higher is better) as `FPR95 / AUROC`, and the ID accuracy."""
    parts = []
    for id_set, (header, body) in own_tables(rows, metrics, marks).items():
        starred = any(word.endswith("*") for word in header)
        parts += [caption(id_set, metrics), markdown(header, body)] + ["* not part of the average"] * starred
    return "\n\n".join(parts)


def latex(tables: dict[str, Printable]) -> str:
    """Tables by their captions, for \\input in LaTeX."""
    parts = ["% needs \\usepackage{booktabs}"]
    for words, (header, body) in tables.items():
        top, *lines = (" & ".join(map(_escape, line)) + r" \\" for line in (header, *body))
        parts.append("\n".join([
            r"\begin{table}", rf"\caption{{{_escape(words)}}}", rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", r"\toprule", top, r"\midrule",
            *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], in_a_line(text))


def read_paper(folder: Path) -> list[dict[str, str]]:
    """The printed cells in a folder of CSV files (percent, as printed)."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(f"no printed tables (*.csv) in {folder}")
    return [row for path in files for row in csv.DictReader(open(path, newline=""))]


def beside_paper(
    rows: Sequence[dict[str, Any]], paper: Sequence[dict[str, str]], metrics: Sequence[str] = ("fpr95", "auroc")
) -> str:
    """Paper, ours and gap for every cell that both have: same ID set, OOD set (a benchmark's own, whole), method and score."""
    printed: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in paper:
        printed.setdefault((cell["id_set"], cell["method"], cell["scorer"], cell["ood_set"], cell["metric"]), cell)
    lines, backbones = [], set()
    for id_set in dict.fromkeys(row["id_set"] for row in rows):
        columns, found = lines_of([row for row in rows if row["id_set"] == id_set and str(row["benchmark"]) == "True"])
        for line, column in ((line, column) for line in found for column in columns if column in line.cells):
            row = next(iter(line.cells[column].values()))
            texts = []
            for metric in metrics:
                if (cell := printed.get((id_set, method_of(row), row["scorer"], row["ood_set"], metric))) is None:
                    break
                backbones.add(cell["backbone"])
                values = list(line.values(column, metric).values())
                texts += [
                    cell["value"],
                    seeds_mean(values),
                    f"{100 * float(np.mean(values)) - float(cell['value']):+.2f}",
                ]
            else:
                lines.append([line.method, line.scorer, column.title, *texts])
    if not lines:
        return ""
    own = ", ".join(dict.fromkeys(row["backbone"] for row in rows))
    columns = (f"{METRICS[m]} {what}" for m in metrics for what in ("paper", "ours", "gap"))
    head = f"Beside the printed numbers (paper: {', '.join(sorted(backbones))}; ours: {own}; gap in points)\n\n"
    return head + markdown(["method", "score", "OOD set", *columns], lines)
