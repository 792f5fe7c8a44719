"""Figure 6: AUROC and ID accuracy against delta, mu and lambda. A picture of what happened, never a way to choose: the OOD sets are those reported.

    python -m lbf.sensitivity RUN/results.csv ... --out FIGURES/sensitivity

Reads which values a run used from its rows' recipe; writes OUT.png, OUT.pdf and OUT.md.
"""

import sys
from pathlib import Path

import numpy as np

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import digest
from common.results.columns import OF_OOD_SET, content, identity
from common.results.lines import apart, averaged
from common.results.rows import read_rows
from common.results.style import BLACK, BLUE, ORANGE, figure_files, plt, save
from common.results.tables import markdown, seeds_mean

VERSION = 2  # raised when the same rows give other text or another figure
AXES = {"delta": "delta (probability)", "mu": "mu (norm)", "lam": "lambda"}

Point = tuple[str, float]  # (which parameter, its value)


def points(rows: list[dict[str, str]]) -> tuple[dict[Point, dict[str, list[float]]], dict[str, float]]:
    """For each (parameter, value) one number a seed of the mean AUROC of each scorer and of "ID accuracy"; and the defaults.

    The default of a parameter is its most frequent value. Raises UserError for rows that are not LBF's.
    """
    recipes = [content(row["recipe"]) for row in rows]
    for row, recipe in zip(rows, recipes, strict=True):
        if not isinstance(recipe, dict) or any(name not in recipe for name in AXES):
            raise UserError(
                f"{row['method']}, seed {row['seed']}: lbf.finetune did not make this network (recipe {row['recipe'][:60]})"
            )
    check_one_sweep(rows)
    values = {name: [recipe[name] for recipe in recipes] for name in AXES}
    default = {name: max(set(found), key=found.count) for name, found in values.items()}
    runs_: dict[tuple, dict[str, list[float]]] = {}
    for row, recipe in zip(rows, recipes, strict=True):
        numbers = runs_.setdefault((row["seed"], *(recipe[name] for name in AXES)), {})
        if averaged(row["ood_set"]):
            numbers.setdefault(row["scorer"], []).append(float(row["auroc"]))
        numbers.setdefault("ID accuracy", []).append(float(row["id_accuracy"]))
    found: dict[Point, dict[str, list[float]]] = {}
    for (_, *used), numbers in runs_.items():
        for name, value in zip(AXES, used):
            if all(other == name or default[other] == v for other, v in zip(AXES, used)):
                for what, many in numbers.items():
                    found.setdefault((name, value), {}).setdefault(what, []).append(float(np.mean(many)))
    return found, default


def check_one_sweep(rows: list[dict[str, str]]) -> None:
    """Raise UserError for networks that differ in more than the parameters of AXES: their means would be of different things."""
    free = {("recipe", name) for name in AXES}
    of_row = [identity(row, (*OF_OOD_SET, "method", "scorer", "options")) for row in rows]
    kinds = [{place: value for place, value in one.items() if place not in free} for one in of_row]
    if said := next(filter(None, (apart(one, [kinds[0], one]) for one in kinds)), ""):
        raise UserError(
            f"the results differ in more than {', '.join(AXES)}: {said}, others not; give those of one sweep"
        )


def draw(found: dict[Point, dict[str, list[float]]], default: dict[str, float], scorers: list[str]) -> plt.Figure:
    figure, panels = plt.subplots(2, 3, figsize=(9, 5), sharey="row", sharex="col")
    for column, (name, label) in enumerate(AXES.items()):
        at = sorted(value for parameter, value in found if parameter == name)
        for row, names in enumerate((scorers, ["ID accuracy"])):
            panel = panels[row, column]
            for scorer, colour, style in zip(names, (BLUE, ORANGE, BLACK), ("o-", "s--", "^:")):
                means = [100 * np.mean(found[name, value][scorer]) for value in at]
                panel.plot(at, means, style, color=colour, label=scorer, markersize=4)
            panel.axvline(default[name], color=BLACK, linewidth=0.8, linestyle=":")
            if name == "delta":
                panel.set_xscale("log")
        panels[1, column].set_xlabel(label)
    panels[0, 0].set_ylabel("mean AUROC (%)")
    panels[1, 0].set_ylabel("ID accuracy (%)")
    panels[0, 0].legend()
    return figure


def table(found: dict[Point, dict[str, list[float]]], default: dict[str, float], scorers: list[str]) -> str:
    said = "Mean over OOD sets, percent; one parameter at a time. Not for choosing: these are the OOD sets that are reported."
    header, lines = ["parameter", "value", *(f"{name} AUROC" for name in scorers), "ID accuracy"], []
    for name, value in sorted(found, key=lambda point: (list(AXES).index(point[0]), point[1])):
        means = [seeds_mean(found[name, value][what]) for what in (*scorers, "ID accuracy")]
        lines.append([name, f"{value:g}" + (" (default)" if value == default[name] else ""), *means])
    return f"{said}\n\n{markdown(header, lines)}"


def main() -> None:
    made = commands.parser("lbf.sensitivity", __doc__)
    files = "CSV files of common.evaluate, of networks that differ in one of delta, mu, lambda"
    made.add_argument("results", nargs="+", type=Path, help=files)
    path = "name of the figure and the table, without suffix"
    made.add_argument("--out", type=Path, required=True, metavar="PATH", help=path)
    arguments = made.parse_args()
    out, results = arguments.out, arguments.results
    outputs = [*figure_files(out), out.with_suffix(".md")]
    with commands.step_of(arguments, outputs, results) as step:
        rows = read_rows(results)
        if step.is_done({"command": "lbf.sensitivity", "version": VERSION, "rows": digest(rows)}):
            return
        found, default = points(rows)
        scorers = list(dict.fromkeys(row["scorer"] for row in rows))
        text = table(found, default, scorers)
        write_atomically(outputs[-1], lambda part: part.write_text(text + "\n"))
        save(draw(found, default, scorers), out)
        step.say(text)
    print(outputs[0], file=sys.stderr)


if __name__ == "__main__":
    command(main, alone=True)
