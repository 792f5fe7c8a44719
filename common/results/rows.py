"""Rows of results: what a row says, how it is written and read."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.metrics import INTERVALS

COLUMNS = (
    "method",
    "scorer",
    "id_set",
    "ood_set",
    "n_id",
    "n_ood",
    "fpr95",
    "auroc",
    "aupr_in",
    "aupr_out",
    "id_accuracy",
    "convention",
    "seed",
    "backbone",
    "precision",
    "checkpoint_sha256",
    "train_data_sha256",
    "id_data_sha256",
    "ood_data_sha256",
    "recipe",
    "options",
    "benchmark",
    "commit",
    "versions",
    "device",
    "seconds",
)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """All digits, one row a line, written whole or not at all. A row that lacks a part of its provenance is refused."""
    text = io.StringIO()
    columns = (*COLUMNS, *INTERVALS) if any("auroc_low" in row for row in rows) else COLUMNS
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise UserError(f"a row of results lacks {', '.join(missing)}; it is not written")
        writer.writerow(row)
    write_atomically(path, lambda part: part.write_text(text.getvalue()))


def read_rows(paths: Iterable[Path]) -> list[dict[str, str]]:
    """The rows of several CSV files. Raises UserError for a file that is missing or is not a file of results."""
    rows: list[dict[str, str]] = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"no results at {path}")
        with open(path, newline="") as file:
            found = list(csv.DictReader(file))
        if not found or "auroc" not in found[0]:
            raise UserError(f"{path} is not a file of results (no column auroc)")
        rows += found
    return rows
