"""Average AUROC of every method, the paper's and ours side by side (LBF Fig. 3).

python -m lbf.bars runs/*/results.csv --paper lbf/paper/table1.csv --out FIGURES
"""

from pathlib import Path

from common.cli import commands
from common.cli.errors import UserError, command
from common.cli.recipes import digest
from common.data.specs import title
from common.results.paper import AVERAGE, Table, join, read_printed, table_path
from common.results.rows import read_rows
from common.results.style import BLUE, ORANGE, figure_files, plt, save

VERSION = 1  # raised when the same rows give another figure


def draw(axis: plt.Axes, table: Table) -> None:
    """One panel: a pair of bars a row of the printed table; ours with its deviation over seeds. The axis does not start at 0, and says so."""
    cells = [(row[0], table.cells[row, AVERAGE, "auroc"]) for row in table.rows]
    cells = [(name, cell) for name, cell in cells if cell.paper is not None or cell.values]
    for k, (_, cell) in enumerate(cells):
        if cell.paper is not None:
            axis.bar(k - 0.2, cell.paper, 0.38, color=BLUE, label="paper" if k == 0 else None)
        if cell.mean is not None:
            axis.bar(k + 0.2, cell.mean, 0.38, yerr=cell.std, color=ORANGE, hatch="//", edgecolor="white", label="ours")
    values = [v for _, cell in cells for v in (cell.paper, cell.mean) if v is not None]
    low = max(0, 5 * int(min(values) / 5) - 5)
    axis.set(ylim=(low, 100), xticks=range(len(cells)), title=f"ID {title(table.id_set)}, {table.backbone}")
    axis.set_ylabel(f"average AUROC, percent (axis from {low})")
    axis.set_xticklabels([name for name, _ in cells], rotation=60, ha="right", fontsize=7)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    axis.legend(handles.values(), handles.keys(), fontsize=7, loc="upper left", ncols=2)


def averages(tables: list[Table]) -> list[Table]:
    """Those that have an average AUROC."""
    return [table for table in tables if "auroc" in table.metrics and any(key[1] == AVERAGE for key in table.cells)]


def main() -> None:
    made = commands.parser("lbf.bars", __doc__)
    made.add_argument("results", nargs="*", type=Path, help="CSV files of common.evaluate [none: the paper's alone]")
    paper = "printed tables with AUROC columns"
    made.add_argument("--paper", nargs="+", type=table_path, required=True, metavar="FILE", help=paper)
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for bars.png and .pdf")
    arguments = made.parse_args()
    out = arguments.out / "bars"
    with commands.step_of(arguments, figure_files(out), [*arguments.results, *arguments.paper]) as step:
        rows, printed = read_rows(arguments.results), [read_printed(path) for path in arguments.paper]
        made_of = {"rows": digest(rows), "printed": digest(printed)}
        if not step.is_done({"command": "lbf.bars", "version": VERSION} | made_of):
            tables = averages([table for one in printed for table in join(one, rows)])
            if not tables:
                raise UserError(f"no average AUROC in {', '.join(map(str, arguments.paper))}")
            figure, axes = plt.subplots(1, len(tables), figsize=(5.2 * len(tables), 3.6), squeeze=False)
            for axis, table in zip(axes[0], tables):
                draw(axis, table)
            save(figure, out)
    print(out.with_suffix(".png"))


if __name__ == "__main__":
    command(main, alone=True)
