"""One HTML page of finished runs: tables, figures, training curves, recipes, provenance, and the most confident mistakes.

    python -m common.report RUN/pretrained RUN/control RUN/lbf --out report.html

A RUN is a folder with results.csv; recipe.json, log.jsonl, checkpoint.pt and the figures beside it are taken where they are there. The page holds everything
itself, loads nothing, and can be read without JavaScript (which only sorts). It shows images of the data sets: mind their licences before you pass it on.
"""

import argparse
from pathlib import Path
from typing import Any

from common.cli import flags
from common.cli.commands import prog
from common.cli.errors import UserError, command
from common.cli.files import sha256, write_atomically
from common.cli.recipes import from_arguments
from common.cli.steps import add_step_arguments, making
from common.metrics import check_repeats
from common.results.report import figure_files, page
from common.scoring.network import Inference

VERSION = 4  # raised when the same runs give another page
READ = ("results.csv", "results.npz", "recipe.json", "log.jsonl", "checkpoint.pt")


def identity(runs: list[Path], scorer: str, how: Inference, repeats: int) -> dict[str, Any]:
    """What decides the page, as plain values (common.cli.steps); it prints the names of the folders."""
    files = {"runs": [[folder.name, *(digest_of(folder / name) for name in READ)] for folder in runs]}
    figures = [[path.stem, sha256(path)] for path in figure_files(runs)]
    gallery = {"scorer": scorer, "limit": how.limit, "precision": how.precision, "paired": repeats}
    return {"command": "common.report", "version": VERSION, "figures": figures} | files | gallery


def digest_of(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def main() -> None:
    made = argparse.ArgumentParser(prog=prog("common.report"), description=__doc__, formatter_class=flags.formatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of scored runs")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")
    made.add_argument(
        "--scorer",
        default="energy",
        metavar="NAME",
        help="score of the gallery of mistakes; none leaves it out [energy]",
    )
    flags.add_inference_arguments(made, limit=2000)
    flags.add_paired_argument(made)
    add_step_arguments(made)
    arguments = made.parse_args()
    check_repeats(arguments.paired, "paired")
    how, rows = from_arguments(arguments, Inference()), [folder / "results.csv" for folder in arguments.runs]
    with making([arguments.out], rows, expect=arguments.expect, wait_s=arguments.wait) as step:
        if missing := [path.parent for path in rows if not path.is_file()]:
            raise UserError(
                f"{missing[0]} has no results.csv; score it with python -m common.evaluate {missing[0]}/checkpoint.pt"
            )
        step.inputs = [path for folder in arguments.runs for name in READ if (path := folder / name).is_file()]
        if step.is_done(identity(arguments.runs, arguments.scorer, how, arguments.paired)):
            return
        text = page(arguments.runs, arguments.scorer, how, arguments.paired)
        write_atomically(arguments.out, lambda part: part.write_text(text))
        step.say(str(arguments.out))


if __name__ == "__main__":
    command(main, alone=True)
