"""Rows of results: what a row says, how it is written and read."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.metrics import INTERVALS

COLUMNS = (
    "method", "scorer", "id_set", "ood_set", "protocol", "n_id", "n_ood", "fpr95", "auroc", "aupr_in", "aupr_out", "id_accuracy",
    "convention", "seed", "backbone", "precision", "checkpoint_sha256", "train_data_sha256", "id_data_sha256", "ood_data_sha256",
    "recipe", "options", "benchmark", "commit", "versions", "device", "seconds",
)  # fmt: skip
IDENTIFY = (  # the columns that say what a row is of
    "method", "scorer", "options", "id_set", "ood_set", "n_id", "n_ood", "protocol", "seed", "backbone", "precision", "recipe",
    "train_data_sha256", "id_data_sha256", "ood_data_sha256", "convention",
)  # fmt: skip
PLACE = ("method", "scorer", "protocol", "id_set", "ood_set", "checkpoint_sha256")  # where a table puts it
PASSING = ("commit", "versions", "device", "seconds")  # of the moment it was made
OWN = "own"  # protocol: images reach the network's size as in training


def csv_text(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """A CSV with a header, all digits, the same bytes on any system. Raises ValueError for a row that has another column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The numbers of a figure or a table, by the columns of the first row; whole or not at all."""
    text = csv_text(rows[0], rows)
    write_atomically(path, lambda part: part.write_text(text))


def _as_text(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows as a file gives them back. Raises UserError for one that lacks a part of its provenance."""
    columns = (*COLUMNS, *INTERVALS) if any("auroc_low" in row for row in rows) else COLUMNS
    for row in rows:
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise UserError(f"a row of results lacks {', '.join(missing)}; it is not written")
    return list(csv.DictReader(io.StringIO(csv_text(columns, rows))))


def merge_rows(path: Path, rows: list[dict[str, Any]], current: Collection[str] | None = None) -> bool:
    """Add rows to a file, all digits, written whole or not at all: a row that is of the same as a new one (IDENTIFY) gives way to it.

    `current`: digests of weights; rows of others are stale and go. None keeps them. Gives whether anything that stood there is gone: a row left out, or
    one replaced by another result. Raises UserError for a row that lacks a part of its provenance, and for a file that is not one of results.
    """
    new = _as_text(rows)
    of = lambda row: tuple(row.get(column, "") for column in IDENTIFY)  # noqa: E731
    result = lambda row: {k: v for k, v in row.items() if v and k not in PASSING}  # noqa: E731
    found, by_key = _read(path) if path.is_file() else [], {of(row): row for row in new}
    kept = [row for row in found if of(row) not in by_key and (current is None or row["checkpoint_sha256"] in current)]
    same = [row for row in found if of(row) in by_key and result(row) == result(by_key[of(row)])]
    columns = (*COLUMNS, *INTERVALS) if any("auroc_low" in row for row in (*kept, *new)) else COLUMNS
    text = csv_text(columns, [{column: row.get(column, "") for column in columns} for row in (*kept, *new)])
    write_atomically(path, lambda part: part.write_text(text))
    return len(kept) + len(same) < len(found)


def read_rows(paths: Iterable[Path]) -> list[dict[str, str]]:
    """The rows of several CSV files. Raises UserError for a file that is missing or is not a file of results, and for one in which a network has two
    results in one place of a table, of 100 images and of all for example: a table would take them for two seeds.

    A file from before the column `protocol` was there is read as the network's own.
    """
    rows: list[dict[str, str]] = []
    for path in paths:
        found: dict[tuple[str, ...], dict[str, str]] = {}
        for row in _read(path):
            place = tuple(row.get(column, "") for column in PLACE)
            if (other := found.setdefault(place, row)) is not row and "checkpoint_sha256" in row:
                differing = [
                    f"{name} {other[name]} and {row[name]}" for name in IDENTIFY if other.get(name) != row.get(name)
                ]
                raise UserError(
                    f"{path} has two results of one network for {' '.join(place[:2])} on {row['ood_set']} ({'; '.join(differing)}); "
                    "remove it and score again, each into a file of its own (--out)"
                )
            rows.append(row)
    return rows


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"no results at {path}")
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    if not found or "auroc" not in found[0]:
        raise UserError(f"{path} is not a file of results (no column auroc)")
    return [row | {"protocol": row.get("protocol", OWN)} for row in found]


def method_of(row: dict[str, Any]) -> str:
    """The method as tables name it: with its protocol where that is not the network's own, as in `DFB + (via32)`."""
    protocol = row.get("protocol", OWN)
    return row["method"] if protocol == OWN else f"{row['method']} ({protocol})"
