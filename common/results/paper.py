"""A printed table with our numbers in it: paper, ours (mean +- std over seeds, n) and gap, in the paper's order of rows and columns.

Every number printed is in it; a method that was not run keeps its printed number and is marked "reported". Averages are recomputed from
the columns on both sides. Only rows of the benchmark's own sets, whole, scored on the paper's network, stand beside a printed number.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.errors import UserError
from common.data.specs import BENCHMARKS
from common.data.specs import title as set_title
from common.results.columns import content
from common.results.lines import Line, lines_of
from common.results.rows import csv_text, method_of
from common.results.tables import METRICS, latex, markdown

COLUMNS = (
    "id_set", "backbone", "row", "method", "scorer", "ood_set", "metric", "paper", "ours_mean", "ours_std", "n", "gap", "note",
)  # fmt: skip
AVERAGE = "average"
NAMES = METRICS | {"id_accuracy": "ID accuracy"}
SUITE = Path(__file__).resolve().parents[2]  # where the packages lie, in a checkout or installed
EXTRA = "ours only"  # marks rows that the paper does not have


@dataclass(frozen=True)
class Cell:
    """One number of the paper and ours, in percent; None where a side has none. `values`: ours, one a seed."""

    paper: float | None
    values: tuple[float, ...] = ()
    note: str = ""

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.values)) if self.values else None

    @property
    def std(self) -> float | None:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def gap(self) -> float | None:
        return None if self.paper is None or self.mean is None else self.mean - self.paper

    def text(self, n: int = 0) -> str:
        """`28.17 -> 27.90 ± 0.31 (-0.27)`, or the side that is there; with its seeds where they are not the row's `n`."""
        ours = "" if self.mean is None else f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")
        ours += f" (n={len(self.values)})" if n and self.values and len(self.values) != n else ""
        if self.paper is None or not ours:
            return ours or ("-" if self.paper is None else f"{self.paper:.2f}")
        return f"{self.paper:.2f} -> {ours} ({self.gap:+.2f})"


@dataclass(frozen=True)
class Table:
    """One ID set's part of a printed table: `rows` are (printed name, method, scorer), `cells` by (row, ood_set, metric)."""

    id_set: str
    backbone: str
    rows: tuple[tuple[str, str, str], ...]
    sets: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: dict[tuple[tuple[str, str, str], str, str], Cell]

    def seeds(self, row: tuple[str, str, str]) -> int:
        return max((len(cell.values) for key, cell in self.cells.items() if key[0] == row), default=0)


def table_path(text: str) -> Path:
    """A path as it was typed; where nothing is there and the suite has that of a method (lbf/paper/table1.csv, lbf/paper), the suite's own."""
    path = Path(text)
    ours = SUITE / path
    return ours if path.parts[1:2] == ("paper",) and not path.exists() and ours.exists() else path


def read_printed(path: Path) -> list[dict[str, str]]:
    """The cells of one printed table. Raises UserError for another file."""
    if not path.is_file():
        raise UserError(f"no printed table at {path}")
    try:
        with open(path, newline="") as file:
            found = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a printed table ({error})") from None
    if not found or "printed" not in found[0]:
        raise UserError(f"{path} is not a printed table (no column printed)")
    return found


def usable(row: dict[str, Any], backbone: str) -> bool:
    """Whether a row of ours may stand beside a printed number: a benchmark's own set, whole, on the paper's network."""
    return str(row.get("benchmark")) == "True" and row["backbone"] == backbone


def ours_by_cell(
    rows: Iterable[dict[str, Any]], id_set: str, backbone: str, metrics: Sequence[str]
) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """(method with its protocol, scorer, ood_set, metric) -> seed -> percent. Raises UserError where different recipes would share a row."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    mine = [row for row in rows if row["id_set"] == id_set and usable(row, backbone)]
    for (method, scorer), lines in _by_printed_name(lines_of(mine)[1]).items():
        if len(lines) > 1:
            names = "; ".join(" ".join((line.method, line.scorer)) for line in lines)
            raise UserError(f"{len(lines)} of ours for one row of a printed table: {names}; give the results of one")
        for column in lines[0].cells:
            for metric in metrics:
                values = {seed: 100 * value for seed, value in lines[0].values(column, metric).items()}
                found.setdefault((method, scorer, column.ood_set, metric), {}).update(values)
                if metric == "id_accuracy":  # the network's, whatever the score and set
                    found.setdefault((method, "", "", metric), {}).update(values)
    return found


def _by_printed_name(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((method_of(line.any), line.any["scorer"]), []).append(line)
    return found


def join(
    printed: Sequence[dict[str, str]], rows: Sequence[dict[str, Any]], extra: Sequence[tuple[str, str]] = ()
) -> list[Table]:
    """A table for each ID set of the printed one. `extra`: further (method, scorer) of ours to show, at the end."""
    tables = []
    for id_set, backbone in dict.fromkeys((cell["id_set"], cell["backbone"]) for cell in printed):
        part = [cell for cell in printed if cell["id_set"] == id_set]
        metrics = tuple(dict.fromkeys(cell["metric"] for cell in part))
        sets = tuple(name for name in dict.fromkeys(cell["ood_set"] for cell in part) if name != AVERAGE)
        behind = BENCHMARKS[BEHIND[id_set]] if id_set in BEHIND else ()
        ours = ours_by_cell(rows, id_set, backbone, metrics)
        names = tuple(dict.fromkeys((cell["printed"], cell["method"], cell["scorer"]) for cell in part))
        more = tuple((EXTRA, *pair) for pair in extra if any(key[:2] == pair for key in ours))
        cells = {}
        for row in (*names, *more):
            mine = {(c["ood_set"], c["metric"]): c for c in part if (c["printed"], c["method"], c["scorer"]) == row}
            for metric in metrics:
                found = {name: ours.get((*row[1:], name, metric), {}) for name in (*sets, *behind)}
                columns = [one_cell(mine.get((name, metric)), found[name]) for name in sets]
                cells |= {(row, name, metric): cell for name, cell in zip(sets, columns)}
                if (AVERAGE, metric) in mine or sets and sets != ("",):
                    papers, values = [cell.paper for cell in columns], [found[name] for name in sets or behind]
                    cells[row, AVERAGE, metric] = average_cell(mine.get((AVERAGE, metric)), papers, values)
        shown = (*sets, AVERAGE) if any(key[1] == AVERAGE for key in cells) else sets
        tables.append(Table(id_set, backbone, (*names, *more), shown, metrics, cells))
    return tables


def one_cell(printed: dict[str, str] | None, ours: dict[str, float]) -> Cell:
    value = float(printed["value"]) if printed and printed["value"] else None
    return Cell(value, tuple(ours[seed] for seed in sorted(ours)), printed["note"] if printed else "")


def average_cell(
    printed: dict[str, str] | None, papers: Sequence[float | None], ours: Sequence[dict[str, float]]
) -> Cell:
    """Recomputed from the columns; the paper's own where it prints averages alone. Ours needs every column, for the same seeds."""
    cell = one_cell(printed, {})
    value, note = cell.paper, cell.note
    if papers:
        value = None if None in papers else float(np.mean(papers))
        if value is not None and cell.paper is not None and abs(cell.paper - value) > 0.0101:
            note = note or f"printed {printed['value']}"
    whole = ours and all(one and one.keys() == ours[0].keys() for one in ours)
    return Cell(
        value, tuple(float(np.mean([one[seed] for one in ours])) for seed in sorted(ours[0])) if whole else (), note
    )


# OOD sets behind averages that are printed without their columns (LBF Tables 2 and 4)
BEHIND = {"cifar10": "lbf-cifar", "cifar100": "lbf-cifar", "imagenet100": "lbf-imagenet"}


def texts(table: Table, metric: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one metric."""
    header = ["row", "score", "n", *(set_title(name) or NAMES[metric] for name in table.sets)]
    lines = []
    for row in table.rows:
        n = table.seeds(row)
        said = row[0] if row[0] != EXTRA else f"{row[1]} ({EXTRA})"
        cells = (table.cells.get((row, name, metric), Cell(None)).text(n) for name in table.sets)
        lines.append([said, row[2] or "-", str(n) if n else "reported", *cells])
    return header, lines


def as_markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        for metric in table.metrics:
            better = "lower" if metric == "fpr95" else "higher"
            head = f"ID {set_title(table.id_set)}, {table.backbone}; {NAMES[metric]} in percent, {better} is better; paper -> ours (gap in points)"
            noted = [
                (row[0], cell.note) for (row, name, m), cell in table.cells.items() if m == metric and name == AVERAGE
            ]
            notes = [f"- {name}, average: {note}" for name, note in noted if note and "within rounding" not in note]
            parts.append("\n\n".join([head, markdown(*texts(table, metric)), *(["\n".join(notes)] if notes else [])]))
    return (
        "\n\n".join(parts)
        + '\n\nn: seeds of ours; "reported": the paper\'s number alone, not run here. Averages are recomputed from the columns.'
    )


def as_csv(tables: Sequence[Table]) -> str:
    """One line a cell, all digits, no times: two runs with one seed give the same bytes."""
    plain = lambda value: "" if value is None else repr(value)  # noqa: E731
    rows = [
        (table.id_set, table.backbone, row, method, scorer, name, metric, plain(cell.paper), plain(cell.mean), plain(cell.std),
         len(cell.values) or "", plain(cell.gap), cell.note)
        for table in tables for ((row, method, scorer), name, metric), cell in table.cells.items()
    ]  # fmt: skip
    return csv_text(COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


def as_latex(tables: Sequence[Table]) -> str:
    """A booktabs table for each ID set and metric."""
    said = "{} in %, ID {}, {}: paper -> ours (gap)."
    return latex({
        said.format(NAMES[metric], set_title(table.id_set), table.backbone): texts(table, metric)
        for table in tables for metric in table.metrics
    })  # fmt: skip


def trained_as(rows: Sequence[dict[str, Any]]) -> str:
    """How long ours were trained, in a line: a short run is named short."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(recipe := content(row["recipe"]), dict) and recipe:
            if "converted_from" in recipe:
                long = f"converted from {recipe['converted_from']}"
            else:
                long = f"{recipe['steps']} steps" if recipe.get("steps") else f"{recipe['epochs']} epochs"
            found.setdefault(method_of(row), []).append(f"{row['backbone']} {long}")
    return (
        "ours: " + "; ".join(f"{method} {', '.join(dict.fromkeys(said))}" for method, said in found.items())
        if found
        else ""
    )


def left_out(tables: Sequence[Table], rows: Sequence[dict[str, Any]]) -> str:
    """Which rows of ours stand in no cell and why, in a line; empty where none."""
    known = {(table.id_set, table.backbone) for table in tables}
    other = [row for row in rows if (row["id_set"], row["backbone"]) not in known]
    partial = [row for row in rows if row not in other and str(row.get("benchmark")) != "True"]
    said = []
    if other:
        pairs = ", ".join(sorted({f"{row['backbone']} on {row['id_set']}" for row in other}))
        said.append(f"{len(other)} rows of another network or ID set ({pairs})")
    if partial:
        said.append(
            f"{len(partial)} rows of sets that are not the benchmark's, or not whole ({', '.join(sorted({row['ood_set'] for row in partial}))})"
        )
    return "left out of the paper's table: " + "; ".join(said) if said else ""
