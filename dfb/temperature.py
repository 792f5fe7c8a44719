"""AUROC against T of Eq. 7, a panel an OOD set, a line a detector and sign (DFB Fig. 6). A scan to be looked at: T is never chosen from it.

python -m dfb.temperature DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood cifar10 places365 --out FIGURES
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import commands, flags
from common.cli.errors import command
from common.cli.recipes import add_arguments, from_arguments
from common.results.lines import set_title
from common.results.rows import write_csv
from common.results.style import CYCLE, STYLES, figure_files, plt, save
from common.scoring.network import Inference
from common.scoring.sets import Line, Scored, left_out, score_sets
from common.training import distributed
from dfb.evaluate import JOINED, Pair, add_pair_arguments, ask, open_pair
from dfb.score import SIGNS, JointScorer

VERSION = 1  # raised when the same networks and images give other numbers
T_GRID = tuple(np.arange(1, 5.01, 0.5))


def parser() -> argparse.ArgumentParser:
    made = commands.parser("dfb.temperature", __doc__)
    add_pair_arguments(made, "the stage-1 checkpoint: its detectors as flat lines [left out]")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the figure [figures beside the checkpoint]")
    flags.add_scoring_arguments(made)
    add_arguments(made, JointScorer, omit=("sign", "temperature"))
    return made


def scan(
    scored: Scored, joint: dict[Line, JointScorer], refused: dict[Line, str] | None = None
) -> list[dict[str, Any]]:
    """A row for each detector, sign, T and set; AUROC in [0, 1]. `refused`: as in `Scored.fit`."""
    found = []
    for T in map(float, T_GRID):
        functions = scored.fit({line: replace(scorer, temperature=T) for line, scorer in joint.items()}, refused)
        found += [row | {"T": T} for row in score_sets(scored, functions, refused=refused).rows]
    signs, order = {method: sign for sign, method in JOINED.items()}, [(line.method, line.scorer) for line in joint]
    found.sort(key=lambda row: (order.index((row["method"], row["scorer"])), row["T"]))
    return [
        {"scorer": row["scorer"], "sign": signs[row["method"]], "T": row["T"], "ood_set": row["ood_set"], "auroc": row["auroc"]}
        for row in found
    ]  # fmt: skip


def draw(rows: list[dict], names: list[str], vanilla: dict[tuple[str, str], float], head: str) -> plt.Figure:
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names) + 1.4, 3.3), squeeze=False)
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))
    for axis, name in zip(axes[0], names):
        for scorer, colour in zip(scorers, CYCLE * len(scorers)):
            if (scorer, name) in vanilla:
                dotted = {"color": colour, "linestyle": (0, (1, 3)), "label": f"{scorer}, vanilla"}
                axis.axhline(100 * vanilla[scorer, name], **dotted)
            for sign, style, marker in zip(SIGNS, STYLES, "o^s"):
                line = [row for row in rows if (row["scorer"], row["sign"], row["ood_set"]) == (scorer, sign, name)]
                look = {"color": colour, "marker": marker, "markersize": 3}
                label = f"{scorer}, DFB {sign.replace('_', '-')}"
                axis.plot([r["T"] for r in line], [100 * r["auroc"] for r in line], style, label=label, **look)
        axis.set(xlabel="T (Eq. 7)", ylabel="AUROC, percent", title=f"OOD {set_title(name)}")
    figure.suptitle(head, fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def main() -> None:
    arguments = parser().parse_args()
    how, template = from_arguments(arguments, Inference()), from_arguments(arguments, JointScorer("msp"))
    path, vanilla_path = arguments.checkpoint, arguments.vanilla
    out = (arguments.out or path.parent / "figures") / "temperature"
    outputs = [*figure_files(out), out.with_suffix(".csv")]
    distributed.device_of(how)
    with commands.step_of(arguments, outputs, [path, vanilla_path], together=distributed.of_main) as step:
        pair = ask(open_pair(path, vanilla_path, how), arguments.ood, arguments.scorers, template)
        if not step.is_done({"command": "dfb.temperature", "version": VERSION} | pair.identity()):
            if (both := pair.scored()) is not None:
                write(pair, *both, out)
            if pair.refused:
                step.say(left_out(pair.refused).strip())
    print(outputs[0])


def write(pair: Pair, scored: Scored, beside: Scored | None, out: Path) -> None:
    """The figure and its numbers."""
    rows, network = scan(scored, pair.joint, pair.refused), pair.network
    flat = score_sets(beside, beside.fit(pair.plain, pair.refused), refused=pair.refused).rows if beside else []
    head = f"ID {set_title(network.id_set)}, {network.model.name}, seed {network.facts['seed']}"
    save(draw(rows, pair.ood, {(row["scorer"], row["ood_set"]): row["auroc"] for row in flat}, head), out)
    write_csv(out.with_suffix(".csv"), rows)


if __name__ == "__main__":
    command(main)
