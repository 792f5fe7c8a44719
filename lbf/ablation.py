"""Each variant of LBF against its control: a dot a seed and score, a panel the average and each OOD set that is reported apart.

python -m lbf.ablation OUT/seed-*/*/results.csv --out FIGURES

The same differences with intervals of the images: python -m common.tables OUT/seed-*/*/results.csv --paired 1000
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.recipes import digest
from common.results.differences import control_of
from common.results.lines import Column, Line, lines_of, reported_apart, set_title
from common.results.rows import read_rows
from common.results.style import CYCLE, figure_files, plt, save

VERSION = 1  # raised when the same rows give another figure
METRICS = {"auroc": "AUROC", "fpr95": "FPR95"}


class Difference(NamedTuple):
    """Of one seed, in points."""

    variant: str
    scorer: str
    panel: str
    seed: str
    value: float


def differences(rows: Sequence[dict[str, Any]], metric: str) -> list[Difference]:
    """Variant minus the control of its seed, of each set that is reported apart and of the average; variants in order of appearance. Raises UserError for
    rows of several ID sets, or of which none has a control."""
    if len(sets := list(dict.fromkeys(row["id_set"] for row in rows))) != 1:
        raise UserError(f"one ablation is of one ID set, got {', '.join(sets)}")
    columns, lines = lines_of(rows)
    pairs = [(line, control) for line in lines if (control := control_of(line, lines)) is not None]
    if not pairs:
        raise UserError(
            "no row has a control (lbf.finetune --lam 0, scored as --method control) with the same score on the same images"
        )
    return [
        Difference(line.method, line.scorer, panel, seed, 100 * (value - theirs[seed]))
        for line, control in pairs
        for panel, of in panels(columns)
        for theirs in [_values(control, of, metric)]
        for seed, value in _values(line, of, metric).items()
        if seed in theirs
    ]


def panels(columns: Sequence[Column]) -> list[tuple[str, list[Column]]]:
    """Name and columns: sets reported apart one by one, then all that an average is taken over."""
    together = [column for column in columns if column.averaged]
    name = ", ".join(set_title(column.ood_set) for column in together)
    return [(column.title.rstrip("*"), [column]) for column in reported_apart(columns)] + [
        (f"mean of {name}" if together[1:] else name, together)
    ] * bool(together)


def _values(line: Line, columns: Sequence[Column], metric: str) -> dict[str, float]:
    return line.average(columns, metric) if columns[0].averaged else line.values(columns[0], metric)


def draw(found: Sequence[Difference], metric: str) -> plt.Figure:
    """One row a variant, one colour a score."""
    names, scorers, titles = (list(dict.fromkeys(values)) for values in list(zip(*found))[:3])
    figure, axes = plt.subplots(
        1, len(titles), figsize=(2 + 2.8 * len(titles), 1.2 + 0.28 * len(names)), sharey=True, squeeze=False
    )
    for axis, title in zip(axes[0], titles):
        for number, scorer in enumerate(scorers):
            own = [d for d in found if (d.panel, d.scorer) == (title, scorer)]
            height = 0.22 * (number - (len(scorers) - 1) / 2)
            places = [names.index(d.variant) + height for d in own]
            axis.plot([d.value for d in own], places, "o", markersize=4, color=CYCLE[number % len(CYCLE)], label=scorer)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=title, xlabel=f"{METRICS[metric]} minus the control's (points)")
        axis.title.set_fontsize(8)
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0, 0].invert_yaxis()
    axes[0, -1].legend(fontsize=7)
    return figure


def main() -> None:
    made = commands.parser("lbf.ablation", __doc__)
    made.add_argument(
        "results", nargs="+", type=Path, help="CSV files of common.evaluate, those of the controls with them"
    )
    made.add_argument("--metric", choices=list(METRICS), default="auroc", help="[auroc]")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for ablation-METRIC.png and .pdf")
    arguments = made.parse_args()
    out = arguments.out / f"ablation-{arguments.metric}"
    with commands.step_of(arguments, figure_files(out), arguments.results) as step:
        found = differences(read_rows(arguments.results), arguments.metric)
        if not step.is_done(
            {"command": "lbf.ablation", "version": VERSION, "numbers": digest([list(d) for d in found])}
        ):
            save(draw(found, arguments.metric), out)
    print(out.with_suffix(".png"))


if __name__ == "__main__":
    command(main, alone=True)
