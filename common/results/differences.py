"""What a method gains over its control on the same images: paired by seed, with an interval where evaluation kept the raw scores."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.arrays import read_npz
from common.cli.errors import UserError
from common.metrics import Metric, auroc, fpr_at_tpr, paired_difference, summary
from common.results.columns import OF_OOD_SET, key
from common.results.compare import check
from common.results.lines import Column, Line, lines_of
from common.results.rows import read_rows
from common.results.tables import METRICS, Printable, of_seeds

# What a method is held against, by how its name begins (the first that fits): the first of these that has its score on its images.
CONTROLS = (("DFB control", ()), ("DFB", ("DFB control, S_h alone", "vanilla")), ("", ("control", "vanilla")))
# What a control shares with what is held against it, beside the score: images, how they pass, the network's make.
SHARED = ("n_id", "id_data_sha256", "protocol", "precision", "backbone", "convention")
SAME_NETWORK = "DFB, S_h alone"  # what a joint score adds to, on the same network
NOT_HELD = ("control", "vanilla", "pre-trained")
REDRAWN: dict[str, Metric] = {"fpr95": fpr_at_tpr, "auroc": auroc}
Raw = dict[
    tuple, tuple[np.ndarray, np.ndarray]
]  # by identity and seed of a row: scores of the ID test set and of the OOD set


def scores_file(results: Path) -> Path:
    """Where evaluation keeps the raw scores of a file of results."""
    return results.with_suffix(".npz")


def read_scores(paths: Iterable[Path]) -> Raw:
    """The raw scores that lie beside files of results. Raises UserError where they are not what the rows were made of."""
    found: Raw = {}
    for path in filter(lambda path: scores_file(path).is_file(), paths):
        arrays, right, wrong = read_npz(scores_file(path), "a file of raw scores"), set(), {}
        for row in read_rows([path]):
            names = (row["scorer"], f"{row['method']}/{row['scorer']}")
            if (name := next((n for n in names if {f"{n}/id", f"{n}/{row['ood_set']}"} <= {*arrays}), None)) is None:
                continue
            keys = f"{name}/id", f"{name}/{row['ood_set']}"
            for key_ in keys:
                check(f"{scores_file(path)}: {key_}", arrays[key_])
            pair = tuple(arrays[key_] for key_ in keys)
            if differing := _unlike(row, *pair):
                wrong[keys[1]] = f"{row['method']} {row['scorer']} on {row['ood_set']} has {differing}"
            else:
                right.add(keys[1])
                found[place_of(row)] = pair
        # In a file of several networks' rows the raw scores are those of the last that was scored.
        if said := [text for name, text in wrong.items() if name not in right]:
            raise UserError(f"{scores_file(path)} is not of the rows of {path.name}: {said[0]}; score again")
    return found


def _unlike(row: dict[str, Any], inside: np.ndarray, outside: np.ndarray) -> str:
    """The first number of a row that these scores do not give; empty where they give them all."""
    numbers = {"n_id": len(inside), "n_ood": len(outside)}
    numbers |= summary(inside, outside) if all(int(row[name]) == n for name, n in numbers.items()) else {}
    return next((f"{METRICS.get(name, name)} {got}, not {row[name]}" for name, got in numbers.items() if float(row[name]) != got), "")  # fmt: skip


def place_of(row: dict[str, Any]) -> tuple:
    return (*key(row), str(row["seed"]))


def differences(
    rows: Sequence[dict[str, Any]], raw: Raw, metrics: Sequence[str], repeats: int = 0
) -> dict[str, Printable]:
    """By ID set a table of method minus control, in points; without those of which no method has a control on the same images with the same score.

    Of one seed with the 95 % interval of `repeats` redraws of the images (FPR95 and AUROC); of several mean ± std of the seeds' differences.
    """
    found = {}
    for id_set in dict.fromkeys(row["id_set"] for row in rows):
        columns, lines = lines_of([row for row in rows if row["id_set"] == id_set])
        body = []
        for line in lines:
            for control in filter(None, (control_of(line, lines), same_network(line, lines))):
                cells = [_cell(line, control, column, raw, metrics, repeats) for column in columns]
                body.append([f"{line.method} - {control.method}", line.scorer, *cells])
        if body:
            found[id_set] = ["difference", "score", *(column.title for column in columns)], body
    return found


def caption(id_set: str, table: Printable, metrics: Sequence[str], repeats: int) -> str:
    with_interval = any("[" in cell for line in table[1] for cell in line[2:])
    interval = f" [95 % interval of {repeats} redraws of the images]" if with_interval else ""
    return f"ID {id_set}; difference on the same images, {' / '.join(METRICS[m] for m in metrics)} in points{interval}"


def control_of(line: Line, lines: Sequence[Line]) -> Line | None:
    """The line that a method is held against, of several (epochs 10, epochs 20) the one whose recipe is nearest; None for controls, and where there is
    none on the same images with the same score."""
    method = line.any["method"]
    names = () if method in NOT_HELD else next(of for begin, of in CONTROLS if method.startswith(begin))
    return next((found for name in names if (found := _nearest(name, line, lines))), None)


def same_network(line: Line, lines: Sequence[Line]) -> Line | None:
    """The score without the background's, of a joint score: one network, so that the difference is the background score's part."""
    found = _nearest(SAME_NETWORK, line, lines)
    held = found is not None and line is not found and control_of(line, lines)
    return found if held and all(row["checkpoint_sha256"] in _weights(found) for row in _rows(line)) else None


def _nearest(name: str, line: Line, lines: Sequence[Line]) -> Line | None:
    mine, able = key(line.any, OF_OOD_SET), [other for other in lines if _comparable(line, other)]
    distance = lambda other: len({*mine} ^ {*key(other.any, OF_OOD_SET)})  # noqa: E731
    return min((other for other in able if other.any["method"] == name), key=distance, default=None)


def _comparable(line: Line, other: Line) -> bool:
    """The options of a joint score hold those of its foreground."""
    same = all(str(line.any[name]) == str(other.any[name]) for name in ("scorer", *SHARED))
    return same and other.any["options"] in line.any["options"] and bool(other.cells.keys() & line.cells.keys())


def _rows(line: Line) -> list[dict[str, Any]]:
    return [row for rows in line.cells.values() for row in rows.values()]


def _weights(line: Line) -> set[str]:
    return {row["checkpoint_sha256"] for row in _rows(line)}


def _cell(line: Line, control: Line, column: Column, raw: Raw, metrics: Sequence[str], repeats: int) -> str:
    ours, theirs = line.cells.get(column, {}), control.cells.get(column, {})
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return "-"
    texts = []
    for metric in metrics:
        values = [100 * (float(ours[seed][metric]) - float(theirs[seed][metric])) for seed in seeds]
        said = f"{np.mean(values):+.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")
        pair = [raw.get(place_of(rows[seeds[0]])) for rows in (ours, theirs)]
        if repeats and len(seeds) == 1 and metric in REDRAWN and None not in pair:
            found = paired_difference(*pair, REDRAWN[metric], repeats)
            said += f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
        texts.append(said)
    return " / ".join(texts) + of_seeds(len(seeds))
