"""AUROC against the number of ID classes, a panel an OOD set (DFB Fig. 7), from results that are there.

python -m dfb.classes runs/papers/dfb/imagenet1k*/seed-*/dfb/results-own.csv --out FIGURES
"""

from pathlib import Path

import numpy as np

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.recipes import digest
from common.data.specs import parse
from common.results.lines import set_title
from common.results.rows import method_of, read_rows
from common.results.style import CYCLE, STYLES, figure_files, plt, save

VERSION = 1  # raised when the same rows give another figure
LINES = (("vanilla", "energy"), ("DFB, S_h alone", "energy"), ("DFB +", "energy"), ("DFB -", "energy"))


def class_count(id_set: str) -> int | None:
    """C of imagenet1k:C=200,seed=0; 1,000 for imagenet1k itself; None for other sets."""
    name, options = parse(id_set)
    return int(options.get("C", 1000)) if name == "imagenet1k" else None


def draw(rows: list[dict[str, str]]) -> plt.Figure:
    """Of the networks' own protocol; means over seeds."""
    sets = list(dict.fromkeys(row["ood_set"] for row in rows))
    figure, axes = plt.subplots(1, len(sets), figsize=(3 * len(sets), 3), squeeze=False, sharey=True)
    for axis, name in zip(axes[0], sets):
        for line, colour, style in zip(LINES, CYCLE, STYLES):
            values: dict[int, list[float]] = {}
            for row in rows:
                if (method_of(row), row["scorer"], row["ood_set"]) == (*line, name):
                    values.setdefault(class_count(row["id_set"]), []).append(float(row["auroc"]))
            counts = sorted(values)
            means = [100 * np.mean(values[count]) for count in counts]
            axis.plot(counts, means, style, marker="o", color=colour, label=f"{line[1]}, {line[0]}")
        axis.set(xlabel="ID classes", title=f"OOD {set_title(name)}")
    axes[0, 0].set_ylabel("AUROC, percent; mean over seeds")
    axes[0, 0].legend(fontsize=7)
    return figure


def main() -> None:
    made = commands.parser("dfb.classes", __doc__)
    made.add_argument("results", nargs="+", type=Path, help="CSV files of dfb.evaluate with imagenet1k:C=... as ID set")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for classes.png and .pdf")
    arguments = made.parse_args()
    out = arguments.out / "classes"
    with commands.step_of(arguments, figure_files(out), arguments.results) as step:
        rows = [row for row in read_rows(arguments.results) if class_count(row["id_set"]) is not None]
        if not rows:
            raise UserError("no row has imagenet1k as ID set: nothing to draw against the number of classes")
        if not step.is_done({"command": "dfb.classes", "version": VERSION, "rows": digest(rows)}):
            save(draw(rows), out)
    print(out.with_suffix(".png"))


if __name__ == "__main__":
    command(main, alone=True)
