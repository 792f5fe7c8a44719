"""AUROC against T of Eq. 7, a panel an OOD set, a line a detector and sign (DFB Fig. 6). A scan to be looked at: T is never chosen from it.

python -m dfb.temperature DFB/checkpoint.pt --vanilla RUN/checkpoint.pt --ood cifar10 places365 --out FIGURES
"""

import argparse
import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.cli import flags
from common.cli.errors import command
from common.cli.files import write_atomically
from common.cli.recipes import add_arguments
from common.data.transforms import transform_from_facts
from common.metrics import auroc
from common.results.style import CYCLE, STYLES, plt, save
from common.results.tables import title
from common.scorers.arrays import Head
from common.scoring.sets import Scored, add_scoring_arguments, ood_names
from dfb.evaluate import DFBScored, load_pair
from dfb.score import SIGNS, JointScorer

T_GRID = tuple(np.arange(1, 5.01, 0.5))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m dfb.temperature", description=__doc__, formatter_class=flags.formatter
    )
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint of dfb.finetune")
    made.add_argument(
        "--vanilla",
        type=Path,
        default=None,
        metavar="FILE",
        help="the stage-1 checkpoint: its detectors as flat lines [left out]",
    )
    add_scoring_arguments(made)
    add_arguments(made, JointScorer, omit=("sign", "temperature"))
    return made


def scan(scored: DFBScored, names: list[str], arguments: argparse.Namespace) -> list[dict]:
    """A row for each T, detector, sign and set; AUROC in [0, 1]."""
    needs = {need for scorer in scored.joint.values() for need in scorer.train_needs}
    id_set = scored.facts["id_set"]
    train, head = scored.features(scored.load(id_set, "train", scored.facts["limit"]), needs), Head.of(scored.whole)
    id_features = scored.features(scored.load(id_set, "test", arguments.limit), scored.needs)
    ood = {name: scored.features(scored.load(name, "test", arguments.limit), scored.needs) for name in names}
    rows = []
    for (sign, name), joint in scored.joint.items():
        for temperature in T_GRID:
            score = replace(joint, temperature=float(temperature)).fit(train, head)
            inside = score(id_features)
            rows += [
                {"scorer": name, "sign": sign, "T": float(temperature), "ood_set": s, "auroc": auroc(inside, score(f))}
                for s, f in ood.items()
            ]
    return rows


def flat(pair, names: list[str], arguments: argparse.Namespace) -> dict[tuple[str, str], float]:
    """AUROC of each detector on the vanilla network, by (scorer, set)."""
    scored = Scored(*pair, arguments.scorers, arguments)
    functions, inside = (
        scored.fit(),
        scored.features(scored.load(pair[1]["id_set"], "test", arguments.limit), scored.needs),
    )
    found = {}
    for set_name in names:
        features = scored.features(scored.load(set_name, "test", arguments.limit), scored.needs)
        found |= {(name, set_name): auroc(function(inside), function(features)) for name, function in functions.items()}
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
        axis.set(xlabel="T (Eq. 7)", ylabel="AUROC, percent", title=f"OOD {title(set_name)}")
    figure.suptitle(head, fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def main() -> None:
    arguments = parser().parse_args()
    (model, facts), vanilla = load_pair(arguments)
    names = ood_names(arguments.ood, facts["id_set"])
    rows = scan(DFBScored(model, facts, arguments, transform_from_facts(facts)), names, arguments)
    found = flat(vanilla, names, arguments) if vanilla else {}
    folder = arguments.out or arguments.checkpoint.parent / "figures"
    path = save(
        draw(rows, names, found, f"ID {title(facts['id_set'])}, {model.name}, seed {facts['seed']}"),
        folder / "temperature",
    )
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader(), writer.writerows(rows)
    write_atomically(path.with_suffix(".csv"), lambda part: part.write_text(out.getvalue()))
    print(path)


if __name__ == "__main__":
    command(main)
