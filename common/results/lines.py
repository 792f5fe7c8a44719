"""Rows of results as lines of a table: seeds of one thing together, different things apart and named by what differs (`LBF, mu 3`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from common.data.specs import is_control, title
from common.results.columns import COLUMNS, IDENTITY, OF_OOD_SET, Identity, identity, key
from common.results.rows import method_of

# Reported, but not part of an average: both methods train on something near the backgrounds, and new objects on known backgrounds are another
# question than images without an object.
APART = ("shapes-backgrounds", "shapes-objects")
WORDS = {  # what a column is called where it sets lines apart
    "n_id": "n ID", "n_ood": "n", "train_data_sha256": "training data", "id_data_sha256": "ID data", "ood_data_sha256": "data",
    "backbone": "", "precision": "", "recipe": "", "upstream": "",
}  # fmt: skip


NOT_SAID = "not said"


class Column(NamedTuple):
    """An OOD set. `apart`: what sets it apart from another of the same name, of other images for example."""

    ood_set: str
    apart: str = ""

    @property
    def averaged(self) -> bool:
        """Control columns (re-encoded ID images) and sets reported apart are no part of an average."""
        return averaged(self.ood_set)

    @property
    def title(self) -> str:
        return set_title(self.ood_set) + (f" ({self.apart})" if self.apart else "")


@dataclass(frozen=True)
class Line:
    """One score of one method. `cells`: of each OOD set the rows by seed."""

    method: str
    scorer: str
    cells: dict[Column, dict[str, dict[str, Any]]]

    @property
    def any(self) -> dict[str, Any]:
        """One of its rows, for what all of them share."""
        return next(row for rows in self.cells.values() for row in rows.values())

    def values(self, column: Column, metric: str) -> dict[str, float]:
        """By seed, as a fraction."""
        return {seed: float(row[metric]) for seed, row in self.cells.get(column, {}).items()}

    def average(self, columns: Iterable[Column], metric: str) -> dict[str, float]:
        """Unweighted mean over the averaged of these sets, by seed; empty where a seed lacks one of them."""
        found = [self.values(column, metric) for column in columns if column.averaged]
        if not found or any(one.keys() != found[0].keys() for one in found):
            return {}
        return {seed: float(np.mean([one[seed] for one in found])) for seed in found[0]}

    def accuracies(self) -> dict[str, float]:
        """ID accuracy by seed."""
        return {seed: float(row["id_accuracy"]) for rows in self.cells.values() for seed, row in rows.items()}


def reported_apart(columns: Iterable[Column]) -> list[Column]:
    """Those that are no part of an average and still no control: questions of their own."""
    return [column for column in columns if not column.averaged and not is_control(column.ood_set)]


def averaged(ood_set: str) -> bool:
    return base_name(ood_set) not in APART and not is_control(ood_set)


def base_name(ood_set: str) -> str:
    return ood_set.partition(":")[0]


def set_title(ood_set: str) -> str:
    """A column's name: a set read with options never bears the plain title; what is no part of an average has a star."""
    return title(ood_set) + ("" if averaged(ood_set) else "*")


def lines_of(rows: Sequence[dict[str, Any]]) -> tuple[list[Column], list[Line]]:
    """OOD sets and lines of one ID set, in order of appearance. `rows` are as `read_rows` gives them: no two of one identity and seed."""
    of_set = tuple(name for name, column in COLUMNS.items() if column.kind == IDENTITY and name not in OF_OOD_SET)
    sets, kinds = _distinct(rows, of_set), _distinct(rows, OF_OOD_SET)
    columns = dict(zip(sets, _columns(list(sets.values()))))
    names = dict(zip(kinds, _names([(method_of(row), identity(row, OF_OOD_SET)) for row in kinds.values()])))
    cells: dict[tuple, dict[Column, dict[str, dict[str, Any]]]] = {kind: {} for kind in kinds}
    for row in rows:
        place = cells[key(row, OF_OOD_SET)].setdefault(columns[key(row, of_set)], {})
        place[str(row["seed"])] = row
    lines = [Line(*names[kind], {c: dict(sorted(r.items(), key=_by_seed)) for c, r in cells[kind].items()}) for kind in kinds]  # fmt: skip
    return list(columns.values()), lines


def _distinct(rows: Sequence[dict[str, Any]], without: tuple[str, ...]) -> dict[tuple, dict[str, Any]]:
    found: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(key(row, without), row)
    return found


def _by_seed(item: tuple[str, Any]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdigit() else -1, item[0])


def _columns(rows: list[dict[str, Any]]) -> list[Column]:
    kept = tuple(name for name in COLUMNS if name not in OF_OOD_SET)
    found = [identity(row, kept) for row in rows]
    said = [apart(one, [other for other in found if other["ood_set", ""] == one["ood_set", ""]]) for one in found]
    return [Column(*words) for words in _each_its_own([(row["ood_set"], words) for row, words in zip(rows, said)])]


def _names(found: list[tuple[str, Identity]]) -> list[tuple[str, str]]:
    """Method and score of each line. Lines of one method are told apart by what differs among them; scores of one name by their options."""
    of_score, names = ("scorer", "options"), []
    plain = [{place: value for place, value in one.items() if place[0] not in of_score} for _, one in found]
    for (method, one), mine in zip(found, plain):
        words = apart(mine, [other for (name, _), other in zip(found, plain) if name == method])
        names.append((f"{method}, {words}" if words else method, one["scorer", ""]))
    options = [one["options", ""] for _, one in found]
    told = [
        (m, f"{score} {words}" if names.count((m, score)) > 1 else score) for (m, score), words in zip(names, options)
    ]
    return [(method, score) for score, method in _each_its_own([(score, method) for method, score in told])]


def _each_its_own(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The last resort: what still bears the name of another (digests that begin alike, a method called `LBF, mu 1`) is numbered, `LBF #2`."""
    return [
        (name, f"{words} #{n}".strip() if (n := names[: place + 1].count((name, words))) > 1 else words)
        for place, (name, words) in enumerate(names)
    ]


def apart(one: Identity, among: Sequence[Identity]) -> str:
    """What of one identity differs from others: `mu 3, start epochs 20`; empty where nothing does."""
    places = dict.fromkeys(place for other in (one, *among) for place in other)
    value = lambda of, place: repr(of[place]) if place in of else NOT_SAID  # noqa: E731 - as text: NaN is not equal to NaN
    differing = [place for place in places if any(value(other, place) != value(one, place) for other in among)]
    return ", ".join(_word(place, one.get(place, NOT_SAID)) for place in differing)


def _word(place: tuple[str, str], value: Any) -> str:
    column, field = place
    if column.endswith("sha256"):
        value = str(value)[:8]
    shown = "none" if value is None else str(value)
    return f"{field or WORDS.get(column, column)} {shown}".strip()
