"""One HTML page of finished runs: tables, figures, training curves, recipes, provenance, and the most confident mistakes.

    python -m common.report RUN/pretrained RUN/control RUN/lbf --out report.html

A RUN is a folder with results.csv; recipe.json, log.jsonl, checkpoint.pt and the figures beside it are taken where they are there. The page holds everything
itself, loads nothing, and can be read without JavaScript (which only sorts). It shows images of the data sets: mind their licences before you pass it on.
"""

import argparse
from pathlib import Path

from common.cli import flags
from common.cli.errors import UserError, command
from common.cli.files import write_atomically
from common.cli.recipes import from_arguments
from common.results.report import page
from common.scoring.network import Inference


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m common.report", description=__doc__, formatter_class=flags.formatter)
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of scored runs")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")
    made.add_argument(
        "--scorer",
        default="energy",
        metavar="NAME",
        help="score of the gallery of mistakes; none leaves it out [energy]",
    )
    flags.add_inference_arguments(made, limit=2000)
    arguments = made.parse_args()
    for folder in arguments.runs:
        if not (folder / "results.csv").is_file():
            raise UserError(
                f"{folder} has no results.csv; score it with python -m common.evaluate {folder}/checkpoint.pt"
            )
    text = page(arguments.runs, arguments.scorer, from_arguments(arguments, Inference()))
    write_atomically(arguments.out, lambda part: part.write_text(text))
    print(arguments.out)


if __name__ == "__main__":
    command(main, alone=True)
