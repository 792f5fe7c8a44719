"""Whether a fine-tuned run may be held against its control: both trained equally far, by training numbers and ID accuracy alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.results.differences import Raw, caption, control_of, differences
from common.results.lines import Line, lines_of
from common.results.rows import method_of, read_rows
from common.results.tables import Marks, Printable, seeds_mean, with_mark
from common.training.log import read_log

LEVEL = 0.003  # as shares: 0.3 points of ID or training accuracy
NOT_CONVERGED = "not converged"
CONTROL_BEHIND = "its control not converged"
UNKNOWN = "not known (no log.jsonl beside its results)"
HEAD = ("method", "control", "last-epoch CE", "the control's", "training accuracy", "the control's", "ID accuracy", "the control's", "comparable")  # fmt: skip
CAPTION = "trained as far as the control? Last epoch, augmented training images; accuracies in percent; the one that is more than 0.3 points behind in training or ID accuracy is not converged"
Logs = dict[str, dict[str, Any]]  # by digest of weights: the last epoch's numbers


@dataclass(frozen=True)
class Trained:
    """How far a network was trained: shares, and the mean loss of the last epoch; None where no log says."""

    ce: float | None
    accuracy: float | None
    id_accuracy: float


def last_epochs(paths: Iterable[Path]) -> Logs:
    """The last line of the log beside each results.csv, by the digest of the network whose log it is: the vanilla one's rows in a file of DFB's are
    of another. Raises UserError for a damaged log."""
    found = {}
    for path in paths:
        if path.name.startswith("results") and (lines := read_log(path.with_name("log.jsonl"))):
            own = {row["checkpoint_sha256"] for row in read_rows([path]) if row["method"] != "vanilla"}
            found |= dict.fromkeys(own if len(own) == 1 else (), lines[-1])
    return found


def level(run: Trained, control: Trained) -> str | None:
    """ "" where ID and training accuracy are within 0.3 points of the control's, else which of the two is behind; None where that cannot be known."""
    pairs = (run.id_accuracy, control.id_accuracy), (run.accuracy, control.accuracy)
    gaps = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    if any(not gap >= -LEVEL - 1e-9 for gap in gaps):
        return NOT_CONVERGED
    if any(gap > LEVEL + 1e-9 for gap in gaps):
        return CONTROL_BEHIND
    return "" if len(gaps) == len(pairs) else None


def judged(rows: Sequence[dict[str, Any]], logs: Logs) -> dict[str, tuple[Printable, dict[str, str]]]:
    """By ID set a table, a line a network that has a control, and a word for each method, and each difference, that is not to be compared."""
    return {
        id_set: _judged([row for row in rows if row["id_set"] == id_set], logs)
        for id_set in dict.fromkeys(row["id_set"] for row in rows)
    }


def _judged(rows: list[dict[str, Any]], logs: Logs) -> tuple[Printable, dict[str, str]]:
    _, lines = lines_of(rows)
    body, marks, shown = [], {}, set()
    for line in lines:
        control = control_of(line, lines)
        if control is None or method_of(control.any) == "vanilla":
            continue  # the start of the run is no control of its length
        ours, theirs = trained(line, logs), trained(control, logs)
        verdict = in_words([level(ours[seed], theirs[seed]) for seed in ours if seed in theirs])
        if NOT_CONVERGED in verdict:
            marks |= dict.fromkeys((line.method, f"{line.method} - {control.method}"), verdict)
        weights = frozenset(row["checkpoint_sha256"] for rows in line.cells.values() for row in rows.values())
        if weights not in shown:
            shown.add(weights)
            name = line.method.removesuffix(", S_h alone"), control.method.removesuffix(", S_h alone")
            body.append([*name, *(text for pair in zip(_texts(ours), _texts(theirs)) for text in pair), verdict])
    return (HEAD, body), marks


def trained(line: Line, logs: Logs) -> dict[str, Trained]:
    """By seed."""
    rows = {seed: row for of_set in line.cells.values() for seed, row in of_set.items()}
    return {seed: _trained(row, logs.get(row["checkpoint_sha256"], {})) for seed, row in rows.items()}


def _trained(row: dict[str, Any], last: dict[str, Any]) -> Trained:
    return Trained(last.get("ce", last.get("pixel_ce")), last.get("train_accuracy"), float(row["id_accuracy"]))


def _texts(found: dict[str, Trained]) -> list[str]:
    runs = list(found.values())
    losses = [run.ce for run in runs if run.ce is not None]
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    return [
        f"{np.mean(losses):.3f}" if losses else "-",
        seeds_mean(accuracies) if accuracies else "-",
        seeds_mean([run.id_accuracy for run in runs]),
    ]


def in_words(levels: Sequence[str | None]) -> str:
    """One seed's verdict, or how many of several are not level."""
    apart = [one for one in levels if one]
    of = f": {len(apart)} of {len(levels)} seeds" if len(levels) > 1 else ""
    if apart:
        return (NOT_CONVERGED if NOT_CONVERGED in apart else CONTROL_BEHIND) + of
    return "yes" if levels and None not in levels else UNKNOWN


def marked(table: Printable, marks: dict[str, str]) -> Printable:
    """The table with a word in each line of a method, or of its difference to its control, that is not to be compared."""
    header, body = table
    return header, [[with_mark(name, marks), *cells] for name, *cells in body]


def against_controls(
    rows: Sequence[dict[str, Any]], raw: Raw, logs: Logs, metrics: Sequence[str], repeats: int
) -> tuple[dict[str, Printable], Marks]:
    """What methods gain over their controls, then how far each is trained, tables by caption; and the words for the lines that are not level."""
    held, found = differences(rows, raw, metrics, repeats), judged(rows, logs)
    marks = {id_set: said for id_set, (_, said) in found.items()}
    gains = {caption(name, table, metrics, repeats): marked(table, marks[name]) for name, table in held.items()}
    return gains | {f"ID {name}; {CAPTION}": table for name, (table, _) in found.items() if table[1]}, marks
