"""AUROC against T of Eq. 7, a panel an OOD set, a line a detector and sign (DFB Fig. 6). A scan to be looked at: T is never chosen from it.

python -m dfb.temperature DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood cifar10 places365 --out FIGURES
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.checkpoint import weights_digest
from common.cli import flags
from common.cli.errors import command
from common.cli.recipes import add_arguments, from_arguments
from common.cli.steps import add_step_arguments, making
from common.results.lines import set_title
from common.results.rows import write_csv
from common.results.style import CYCLE, STYLES, figure_files, plt, save
from common.scorers import Scorer
from common.scoring.network import Inference, Network
from common.scoring.sets import Line, Scored, ood_names, score_sets, scorer_lines, scorer_names
from common.training import distributed
from dfb.evaluate import DFBNetwork, add_pair_arguments, joint_lines, open_pair
from dfb.score import SIGNS, JointScorer

VERSION = 1  # raised when the same networks and images give other numbers
T_GRID = tuple(np.arange(1, 5.01, 0.5))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m dfb.temperature", description=__doc__, formatter_class=flags.formatter
    )
    add_pair_arguments(made, "the stage-1 checkpoint: its detectors as flat lines [left out]")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the figure [figures beside the checkpoint]")
    flags.add_scoring_arguments(made)
    add_step_arguments(made)
    add_arguments(made, JointScorer, omit=("sign", "temperature"))
    return made


def scan(scored: Scored, joint: dict[Line, JointScorer]) -> list[dict[str, Any]]:
    """A row for each detector, sign, T and set; AUROC in [0, 1]."""
    found = []
    for line, scorer in joint.items():
        for temperature in map(float, T_GRID):
            functions = scored.fit({line: replace(scorer, temperature=temperature)})
            found += [
                {"scorer": line.scorer, "sign": scorer.sign, "T": temperature, "ood_set": row["ood_set"], "auroc": row["auroc"]}
                for row in score_sets(scored, functions).rows
            ]  # fmt: skip
    return found


def draw(rows: list[dict], names: list[str], vanilla: dict[tuple[str, str], float], head: str) -> plt.Figure:
    figure, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names) + 1.4, 3.3), squeeze=False)
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))
    for axis, set_name in zip(axes[0], names):
        for scorer, colour in zip(scorers, CYCLE * len(scorers)):
            if (scorer, set_name) in vanilla:
                axis.axhline(
                    100 * vanilla[scorer, set_name], color=colour, linestyle=(0, (1, 3)), label=f"{scorer}, vanilla"
                )
            for sign, style, marker in zip(SIGNS, STYLES, "o^s"):
                line = [row for row in rows if (row["scorer"], row["sign"], row["ood_set"]) == (scorer, sign, set_name)]
                axis.plot(
                    [r["T"] for r in line],
                    [100 * r["auroc"] for r in line],
                    style,
                    marker=marker,
                    markersize=3,
                    color=colour,
                    label=f"{scorer}, DFB {sign.replace('_', '-')}",
                )
        axis.set(xlabel="T (Eq. 7)", ylabel="AUROC, percent", title=f"OOD {set_title(set_name)}")
    figure.suptitle(head, fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def write_figure(
    network: DFBNetwork, vanilla: Network | None, ood: list[str], joint: dict[Line, JointScorer], plain: dict[Line, Scorer], out: Path,
) -> None:  # fmt: skip
    """Over several processes all pass their share, and rank 0 alone scores and writes."""
    scored = network.scored(ood, joint.values())
    vanilla_scored = vanilla and vanilla.scored(ood, plain.values())
    if scored is None:
        return
    rows = scan(scored, joint)
    flat = score_sets(vanilla_scored, vanilla_scored.fit(plain)).rows if vanilla else []
    head = f"ID {set_title(network.id_set)}, {network.model.name}, seed {network.facts['seed']}"
    save(draw(rows, ood, {(row["scorer"], row["ood_set"]): row["auroc"] for row in flat}, head), out)
    write_csv(out.with_suffix(".csv"), rows)


def main() -> None:
    arguments = parser().parse_args()
    how, template = from_arguments(arguments, Inference()), from_arguments(arguments, JointScorer("msp"))
    path, vanilla_path = arguments.checkpoint, arguments.vanilla
    out = (arguments.out or path.parent / "figures") / "temperature"
    outputs, inputs = [*figure_files(out), out.with_suffix(".csv")], [path, *([vanilla_path] if vanilla_path else [])]
    expect, wait_s = arguments.expect, arguments.wait
    distributed.device_of(how)
    with making(outputs, inputs, expect=expect, wait_s=wait_s, together=distributed.of_main) as step:
        network, vanilla = open_pair(path, vanilla_path, how)
        ood, names = ood_names(arguments.ood, network.id_set), scorer_names(arguments.scorers)
        joint, plain = joint_lines(names, network.id_set, template), scorer_lines(names, network.id_set, "vanilla")
        identity = {
            "command": "dfb.temperature", "version": VERSION, "lines": [*joint, *plain], "precision": how.precision,
            "networks": [(weights_digest(one.saved), one.facts["seed"]) for one in (network, vanilla) if one],
            "data": [(name, network.load(name, limit=how.limit).digest) for name in (network.id_set, *ood)],
        }  # fmt: skip
        if not step.is_done(identity):
            write_figure(network, vanilla, ood, joint, plain, out)
    print(outputs[0])


if __name__ == "__main__":
    command(main)
