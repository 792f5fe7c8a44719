"""Rows of results as a table: one line a method and scorer, one column an OOD set, mean +- std over seeds."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.errors import UserError
from common.data.specs import is_control
from common.data.specs import title as set_title
from common.results.rows import method_of

METRICS = {"fpr95": "FPR95", "auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out"}
APART = ("shapes-backgrounds",)  # reported, but not part of an average: both methods train on something near it


def base_name(ood_set: str) -> str:
    return ood_set.partition(":")[0]


def averaged(ood_set: str) -> bool:
    """Control columns (re-encoded ID images) and sets reported apart are no part of an average."""
    return base_name(ood_set) not in APART and not is_control(ood_set)


def seeds_mean(values: Sequence[float]) -> str:
    """Percent with two decimals; with several seeds mean +- standard deviation (n - 1)."""
    if len(values) == 1:
        return f"{100 * values[0]:.2f}"
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"


def cells(
    rows: Sequence[dict[str, Any]], metric: str
) -> tuple[list[str], list[tuple[str, str]], dict[tuple[str, str, str], list[float]]]:
    """OOD sets and (method with its protocol, scorer) lines in order of appearance, and the values of each cell, one a seed."""
    sets = list(dict.fromkeys(row["ood_set"] for row in rows))
    lines = list(dict.fromkeys((method_of(row), row["scorer"]) for row in rows))
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        values.setdefault((method_of(row), row["scorer"], row["ood_set"]), []).append(float(row[metric]))
    return sets, lines, values


def average(values: dict, line: tuple[str, str], sets: Sequence[str]) -> list[float]:
    """Unweighted mean over the averaged OOD sets, one a seed; empty where a set is missing."""
    columns = [values.get((*line, name), []) for name in sets if averaged(name)]
    if not columns or len({len(column) for column in columns}) != 1:
        return []
    return [float(np.mean(seed)) for seed in zip(*columns, strict=True)]


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are padded, so that it reads well on a screen too."""
    widths = [max(len(row[i]) for row in (header, *lines)) for i in range(len(header))]
    align = [str.ljust if i < 2 else str.rjust for i in range(len(header))]
    draw = lambda row: "| " + " | ".join(a(text, w) for a, text, w in zip(align, row, widths)) + " |"  # noqa: E731
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([draw(header), rule, *map(draw, lines)])


def title(ood_set: str) -> str:
    """A column's name: a set read with options never bears the plain title; what is no part of an average has a star."""
    return set_title(ood_set) + ("" if averaged(ood_set) else "*")


def show(rows: Sequence[dict[str, Any]], metrics: Sequence[str] = ("fpr95", "auroc")) -> str:
    """The table of each ID set: FPR95 (lower is better) and AUROC (higher is better) as `FPR95 / AUROC`, and the ID accuracy."""
    parts = []
    for id_set in dict.fromkeys(row["id_set"] for row in rows):
        chosen = [row for row in rows if row["id_set"] == id_set]
        parts.append(_one_table(chosen, id_set, metrics))
    return "\n\n".join(parts)


def _one_table(rows: Sequence[dict[str, Any]], id_set: str, metrics: Sequence[str]) -> str:
    by_metric = {metric: cells(rows, metric) for metric in metrics}
    sets, lines, _ = by_metric[metrics[0]]
    accuracies: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        line = accuracies.setdefault((method_of(row), row["scorer"]), {})
        line[row["checkpoint_sha256"]] = float(row["id_accuracy"])
    body = []
    for line in lines:
        values = [[by_metric[m][2].get((*line, name)) for m in metrics] for name in sets]
        values.append([average(by_metric[m][2], line, sets) for m in metrics])
        texts = [" / ".join(seeds_mean(seeds) if seeds else "-" for seeds in cell) for cell in values]
        body.append([*line, *texts, seeds_mean(list(accuracies[line].values()))])
    head = f"ID {id_set}; {' / '.join(METRICS[m] for m in metrics)} in percent; FPR95: share of OOD accepted at 95 % of ID accepted (lower is better)"
    table = markdown(["method", "score", *map(title, sets), "average", "ID accuracy"], body)
    starred = any(not averaged(name) for name in sets)
    return head + "\n\n" + table + ("\n\n* not part of the average" if starred else "")


def read_paper(folder: Path) -> list[dict[str, str]]:
    """The printed cells in a folder of CSV files (percent, as printed)."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(f"no printed tables (*.csv) in {folder}")
    return [row for path in files for row in csv.DictReader(open(path, newline=""))]


def beside_paper(
    rows: Sequence[dict[str, Any]], paper: Sequence[dict[str, str]], metrics: Sequence[str] = ("fpr95", "auroc")
) -> str:
    """Paper, ours and gap for every cell that both have: same ID set, OOD set, method and score. A stand-in set has no printed cell."""
    printed: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in paper:
        printed.setdefault((cell["id_set"], cell["method"], cell["scorer"], cell["ood_set"], cell["metric"]), cell)
    ours: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        for metric in metrics:
            key = (row["id_set"], method_of(row), row["scorer"], row["ood_set"], metric)
            ours.setdefault(key, []).append(float(row[metric]))
    lines, backbones = [], set()
    for key in dict.fromkeys(key[:4] for key in ours):
        texts = []
        for metric in metrics:
            if (cell := printed.get((*key, metric))) is None:
                break
            backbones.add(cell["backbone"])
            values = ours[(*key, metric)]
            texts += [cell["value"], seeds_mean(values), f"{100 * float(np.mean(values)) - float(cell['value']):+.2f}"]
        else:
            lines.append([key[1], key[2], title(key[3]), *texts])
    if not lines:
        return ""
    own = ", ".join(dict.fromkeys(row["backbone"] for row in rows))
    columns = (f"{METRICS[m]} {what}" for m in metrics for what in ("paper", "ours", "gap"))
    head = f"Beside the printed numbers (paper: {', '.join(sorted(backbones))}; ours: {own}; gap in points)\n\n"
    return head + markdown(["method", "score", "OOD set", *columns], lines)
