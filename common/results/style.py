"""How every figure of the suite looks, and how it is written: PNG and PDF, whole or not at all."""

import os
from pathlib import Path
from typing import Any

from common.cli.files import write_atomically

# Okabe and Ito's colours: told apart by the colour-blind, and of different lightness, so that they survive grey printing.
BLUE, ORANGE, GREEN, BLACK, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#000000", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, BLACK)
STYLES = ("-", "--", ":", "-.")
HEAT = "cividis"  # lightness rises evenly: reads the same in grey

LOOK = {
    "figure.dpi": 100, "savefig.dpi": 150, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False, "figure.constrained_layout.use": True,
}  # fmt: skip


class _Pyplot:
    """matplotlib.pyplot in the suite's look, imported by the first figure that is drawn: a command that only says what it lacks needs none."""

    Figure = Axes = Any  # what annotations name

    def __getattr__(self, name: str) -> Any:
        os.environ["MPLBACKEND"] = (
            "Agg"  # a notebook names one that only its own process has; matplotlib fails at import
        )

        import matplotlib
        import matplotlib.pyplot

        matplotlib.use("Agg")  # where it was imported before

        matplotlib.pyplot.rcParams.update(LOOK)
        self.__dict__.update(vars(matplotlib.pyplot))
        return getattr(matplotlib.pyplot, name)


plt = _Pyplot()


def figure_files(path: Path) -> list[Path]:
    """What `save` writes."""
    return [path.with_suffix(suffix) for suffix in (".png", ".pdf")]


def save(figure: plt.Figure, path: Path) -> Path:
    """Write `path`.png and `path`.pdf and close the figure; returns the PNG's path."""
    for file in figure_files(path):
        # Neither file holds the time it was made: the same numbers give the same bytes.
        kind, nothing = file.suffix[1:], {"Software": None} if file.suffix == ".png" else {"CreationDate": None}
        write_atomically(file, lambda part, k=kind, m=nothing: figure.savefig(part, format=k, metadata=m))
    plt.close(figure)
    return path.with_suffix(".png")
