"""Rows of results as files: how they are written, joined and read. What a row says: common.results.columns."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.cli.errors import UserError
from common.cli.files import write_atomically
from common.results.columns import (
    COLUMNS,
    IDENTITY,
    MEASUREMENT,
    OF_NETWORK,
    OF_OOD_SET,
    OPTIONAL,
    OWN,
    TRACE,
    complaint,
    key,
)

Row = dict[str, str]
APART = 0.005  # of two ID accuracies; an image or two fall otherwise on another machine
NOT_OF_ID = (*OF_OOD_SET, "scorer", "options")
NOT_OF_NETWORK = tuple(name for name, column in COLUMNS.items() if column.kind == IDENTITY and name not in OF_NETWORK)


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


def merge_rows(path: Path, rows: list[dict[str, Any]], current: Collection[str] | None = None) -> bool:
    """Add rows to a file, all digits, written whole or not at all: a row of the same identity and seed as a new one gives way to it.

    `current`: digests of weights; rows of others are stale and go. None keeps them. Gives whether anything that stood there is gone: a row left out, or
    one replaced by another result. Raises UserError for a row that lacks a part of its provenance, and for a file that is not one of results.
    """
    new = _as_text(rows)
    of = lambda row: (*key(row), row["seed"])  # noqa: E731
    passing = {name for name, column in COLUMNS.items() if column.kind == TRACE} - {"checkpoint_sha256"}
    result = lambda row: {name: value for name, value in row.items() if value and name not in passing}  # noqa: E731
    found, by_key = [row for _, row in each_row(path)] if path.is_file() else [], {of(row): row for row in new}
    kept = [row for row in found if of(row) not in by_key and (current is None or row["checkpoint_sha256"] in current)]
    same = [row for row in found if of(row) in by_key and result(row) == result(by_key[of(row)])]
    columns = _columns((*kept, *new))
    text = csv_text(columns, [{column: row.get(column, "") for column in columns} for row in (*kept, *new)])
    write_atomically(path, lambda part: part.write_text(text))
    return len(kept) + len(same) < len(found)


def _columns(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return (*COLUMNS, *OPTIONAL) if any(row.get("auroc_low") for row in rows) else tuple(COLUMNS)


def _as_text(rows: list[dict[str, Any]]) -> list[Row]:
    """Rows as a file gives them back. Raises UserError for one that lacks a part of its provenance, or holds what no reader would take."""
    columns = _columns(rows)
    for row in rows:
        if missing := [column for column in columns if row.get(column) is None]:
            raise UserError(f"a row of results lacks {', '.join(missing)}; it is not written")
    text = csv_text(columns, rows)
    return [_checked(row, columns, "a new row of results") for row in csv.DictReader(io.StringIO(text))]


def read_rows(paths: Iterable[Path]) -> list[Row]:
    """The rows of several CSV files, each row once. Raises UserError, with file and line, for a file that is missing, cut, or not one of results, for a
    value that cannot be, and for two results of one thing: of one seed by different weights, or of the same weights with different numbers.
    """
    rows: dict[tuple, tuple[str, Row]] = {}
    networks: dict[tuple, tuple[str, Row]] = {}
    accuracies: dict[tuple, tuple[str, Row]] = {}
    for path in paths:
        for where, row in each_row(path):
            _check_network(where, row, *networks.setdefault((*key(row, NOT_OF_NETWORK), row["seed"]), (where, row)))
            _check_accuracy(where, row, *accuracies.setdefault((*key(row, NOT_OF_ID), row["seed"]), (where, row)))
            other_place, other = rows.setdefault((*key(row), row["seed"]), (where, row))
            if differing := _contradictions(other, row):
                what = f"{row['method']} {row['scorer']} on {row['ood_set']}, seed {row['seed']}"
                raise UserError(f"two results of {what}: {other_place} and {where} ({differing}); give one of them")
            if row.get("auroc_low") and not other.get("auroc_low"):
                rows[(*key(row), row["seed"])] = where, row
    return [row for _, row in rows.values()]


def _check_network(where: str, row: Row, first_place: str, first: Row) -> None:
    """Raise UserError where a row is of one seed with another, whatever their scores and sets, and not of the same weights."""
    if row["checkpoint_sha256"] != first["checkpoint_sha256"]:
        weights = " and ".join(one["checkpoint_sha256"][:12] for one in (first, row))
        said = f"two networks of {row['method']} on {row['id_set']}, seed {row['seed']}: {first_place} and {where}"
        raise UserError(f"{said} (weights {weights}); give the results of one")


def _check_accuracy(where: str, row: Row, first_place: str, first: Row) -> None:
    """Raise UserError where rows of one network on one ID test set say unlike accuracies, by more than what two machines make of it."""
    one, other = (of["id_accuracy"] for of in (first, row))
    if (one == "nan") != (other == "nan") or abs(float(one) - float(other)) > APART:
        said = f"two ID accuracies of {row['method']} on {row['id_set']}, seed {row['seed']}: {first_place} and {where}"
        raise UserError(f"{said} ({one} and {other}); score again")


def _contradictions(one: Row, other: Row) -> str:
    names = [name for name, column in COLUMNS.items() if column.kind == MEASUREMENT]
    differing = [name for name in names if one[name] != other[name] and float(one[name]) != float(other[name])]
    return ", ".join(f"{name} {one[name]} and {other[name]}" for name in differing)


def each_row(path: Path) -> Iterator[tuple[str, Row]]:
    """(file and line, row) of one file; older ones are filled up."""
    if not path.is_file():
        raise UserError(f"no results at {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets begin their files with a mark
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a file of results: byte {error.start} is not text (UTF-8)") from error
    if "\0" in text:
        raise UserError(f"{path} is not a file of results: it holds a NUL, character {text.index(chr(0))}")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if not header:
            raise UserError(f"{path} is not a file of results: its first line is empty")
        columns = _columns_of(path, header)
        if not text.endswith("\n"):
            raise UserError(f"{path}: the last line is cut ({text.rpartition(chr(10))[2][:60]!r}); make it again")
        rows = [(f"{path}:{lines.line_num}", values) for values in lines if values]
    except csv.Error as error:
        raise UserError(f"{path}:{lines.line_num} is not a line of a CSV ({error})") from error
    if not rows:
        raise UserError(f"{path} is not a file of results: it has a header and no row")
    for where, values in rows:
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values, expected {len(header)}")
        filled = {name: COLUMNS[name].before for name in COLUMNS if name not in header}
        yield where, _checked(dict(zip(header, values)) | filled, columns, where)


def _columns_of(path: Path, header: list[str]) -> tuple[str, ...]:
    """Of a file with this header. Raises UserError for one that is not of results."""
    needed = [name for name, column in COLUMNS.items() if column.before is None]
    if missing := [name for name in needed if name not in header]:
        raise UserError(f"{path} is not a file of results as this version reads them: no column {', '.join(missing)}")
    if other := [name for name in header if header.count(name) > 1 or name not in {*COLUMNS, *OPTIONAL}]:
        raise UserError(f"{path} is not a file of results as this version reads them: column {other[0]!r}")
    return (*COLUMNS, *(name for name in OPTIONAL if name in header))


def _checked(row: Row, columns: Iterable[str], where: str) -> Row:
    every = COLUMNS | OPTIONAL
    if found := complaint(row, {name: every[name] for name in columns}):
        name, value, wants = found
        raise UserError(f"{where}: {name} must be {wants}, got {value!r}")
    return {name: row[name] for name in columns}


def method_of(row: dict[str, Any]) -> str:
    """The method as tables name it: with its protocol where that is not the network's own, as in `DFB + (via32)`."""
    protocol = row.get("protocol", OWN)
    return row["method"] if protocol == OWN else f"{row['method']} ({protocol})"
