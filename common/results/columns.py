"""What a row of results says: its columns, what each of them is, and when two rows are of the same thing.

*Identity* says what was measured; rows are seeds of one thing only if all of it agrees, recipes field by field, those of the networks and masks it began with
too. *Seed* is the run's. *Trace* says how it came about (digests of weights, start and masks; time, machine, versions, commit). *Measurement* is what was found.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from common.metrics import INTERVALS

IDENTITY, SEED, TRACE, MEASUREMENT = "identity", "seed", "trace", "measurement"
OWN = "own"  # protocol: images reach the network's size as in training
NONE = "-"  # of a column that has nothing to say


def text(value: str) -> str:
    return "" if value.strip() else "something"


def count(value: str) -> str:
    return "" if re.fullmatch("[1-9][0-9]{0,17}", value) else "a whole number above 0"


def seed(value: str) -> str:
    """One spelling a seed: 1 and 01 would count as two."""
    fine = value == NONE or re.fullmatch("0|[1-9][0-9]{0,19}", value)
    return text(value) or ("" if fine else f"a whole number, or {NONE}")


def yes_or_no(value: str) -> str:
    return "" if value in ("True", "False") else "True or False"


def share(value: str) -> str:
    plain = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
    return "" if plain and 0 <= float(value) <= 1 else "a number in [0, 1]"


def recipe(value: str) -> str:
    try:
        if value.startswith("{"):
            json.loads(value, object_pairs_hook=_each_once)
        return text(value)
    except (ValueError, RecursionError):
        return "a whole recipe (JSON)"


def content(value: str) -> dict[str, Any] | str:
    """What a column of RECIPES holds: a recipe, none ({}), or, of a network from elsewhere, text."""
    return json.loads(value) if value.startswith("{") else {} if value == NONE else value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a field is there twice")
    return found


def formula(value: str) -> str:
    """Of text that a spreadsheet would run as a formula."""
    runs = value[0] in "=@\t\r" or (value[0] in "+-" and value[1:2].isalpha())
    return "text that a spreadsheet does not run as a formula" if runs else ""


def share_or_nan(value: str) -> str:
    return "" if value == "nan" else share(value)


class Column(NamedTuple):
    """`wants`: what a value that does not fit should have been, "" for one that fits. `before`: the value in files from before the column was there."""

    kind: str
    wants: Callable[[str], str] = text
    before: str | None = None


COLUMNS = {
    "method": Column(IDENTITY), "scorer": Column(IDENTITY), "id_set": Column(IDENTITY), "ood_set": Column(IDENTITY),
    "protocol": Column(IDENTITY, text, OWN), "n_id": Column(IDENTITY, count), "n_ood": Column(IDENTITY, count),
    "fpr95": Column(MEASUREMENT, share), "auroc": Column(MEASUREMENT, share), "aupr_in": Column(MEASUREMENT, share),
    "aupr_out": Column(MEASUREMENT, share), "id_accuracy": Column(MEASUREMENT, share_or_nan),  # nan: no labels
    "convention": Column(IDENTITY), "seed": Column(SEED, seed), "backbone": Column(IDENTITY), "precision": Column(IDENTITY),
    "checkpoint_sha256": Column(TRACE), "train_data_sha256": Column(IDENTITY), "id_data_sha256": Column(IDENTITY),
    "ood_data_sha256": Column(IDENTITY), "recipe": Column(IDENTITY, recipe), "upstream": Column(IDENTITY, recipe, NONE),
    "limit": Column(IDENTITY, text, NONE), "options": Column(IDENTITY), "benchmark": Column(IDENTITY, yes_or_no), "commit": Column(TRACE),
    "versions": Column(TRACE), "device": Column(TRACE), "seconds": Column(TRACE),
}  # fmt: skip
OPTIONAL = {name: Column(MEASUREMENT, share) for name in INTERVALS}  # in files of which one row has them
RECIPES = ("recipe", "upstream")  # JSON
OF_OOD_SET = ("ood_set", "n_ood", "ood_data_sha256", "benchmark")  # the identity of a table's column
OF_NETWORK = (
    "method",
    "id_set",
    "backbone",
    "train_data_sha256",
    "recipe",
    "upstream",
    "limit",
)  # what one was trained as
Identity = dict[tuple[str, str], Any]


def identity(row: dict[str, Any], without: tuple[str, ...] = ()) -> Identity:
    """(column, field) -> value, the field "" but for recipes. Digests within a recipe are trace: masks of another seed have another digest."""
    names = [name for name, column in COLUMNS.items() if column.kind == IDENTITY and name not in without]
    found = {(name, ""): str(row[name]) for name in names if name not in RECIPES}
    for name in RECIPES:
        if name not in without:
            found |= {
                (name, field): value for field, value in _fields(content(row[name])) if not field.endswith("sha256")
            }
    return found


def key(row: dict[str, Any], without: tuple[str, ...] = ()) -> tuple:
    """The same for rows of one identity, and for no others."""
    return tuple(sorted((*place, repr(value)) for place, value in identity(row, without).items()))


def _fields(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a recipe, those of a recipe within it after its name (`start lr`); of text that is none, the text."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _fields(value, f"{prefix} {name}".strip())
    else:
        whole = isinstance(content, float) and content.is_integer() and abs(content) < 2**53  # 1.0 is 1
        yield prefix, int(content) if whole else content


def complaint(row: dict[str, str], columns: dict[str, Column]) -> tuple[str, str, str] | None:
    """The first (column, value, what it should have been) of a row that is not as it must be; None where all is well."""
    for name, column in columns.items():
        value = row[name]
        if name in OPTIONAL and not value:
            continue  # another row of the file has intervals
        if wants := column.wants(value) or formula(value):
            return name, value, wants
    return _of_interval(row, columns)


def _of_interval(row: dict[str, str], columns: dict[str, Column]) -> tuple[str, str, str] | None:
    """An interval has both ends, in their order, and those of one metric do not come alone."""
    ends = [name for name in columns if name in OPTIONAL]
    if missing := [name for name in ends if not row[name]]:
        return (missing[0], "", "there, as the row's other ends of intervals are") if len(missing) < len(ends) else None
    for low, high in zip(ends[::2], ends[1::2]):
        if float(row[low]) > float(row[high]):
            return low, row[low], f"at most {high}, {row[high]}"
    return None
