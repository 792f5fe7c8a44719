"""Are the locations that LBF selects background? Measured where the truth is known: the generated benchmark's masks.

    python -m lbf.selection RUN/checkpoint.pt RUN2/checkpoint.pt

A location is true background if less than half of its cell of pixels is object. Precision is the share of selected locations that are
background, recall the share of background locations that are selected; a selection at random has the base rate as its precision.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import UserError, command
from common.cli.recipes import from_arguments, ranged
from common.results.rows import write_csv
from common.results.tables import markdown
from common.scoring.network import Inference, Network
from lbf.locations import background_locations, true_background
from lbf.loss import local_norms

VERSION = 1  # raised when the same networks and images give other numbers


@torch.no_grad()
def measure(network: Network, images, delta: float) -> dict[str, float | None]:
    """Shares in [0, 1] over all locations of `images`, and mean local norms. None where nothing is selected."""
    if images.masks is None:
        raise UserError(f"{images.name} has no foreground masks; only the generated benchmark's truth is known")
    sums, how = (
        torch.zeros(8, dtype=torch.float64),
        {"batch_size": network.how.batch_size, "progress": not network.how.quiet},
    )
    for of, feature_map, selected in background_locations(network.model, images, delta, **how):
        selected, norms = selected.cpu(), local_norms(feature_map).cpu()
        truth = true_background(images.masks[of].cpu(), *selected.shape[1:])
        border = torch.ones_like(selected)
        border[:, 1:-1, 1:-1] = False
        shares = (selected, truth, selected & truth, selected & border, torch.ones_like(selected), ~truth)
        sums += torch.stack([rows.sum().double() for rows in (*shares, norms * truth, norms * ~truth)])
    chosen, background, both, border, total, objects, norm_background, norm_object = sums.tolist()
    return {
        "selected_share": chosen / total, "base_rate": background / total, "precision": both / chosen if chosen else None,
        "recall": both / background, "border_share": border / chosen if chosen else None,
        "norm_background": norm_background / background, "norm_object": norm_object / objects,
    }  # fmt: skip


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def table(found: list[dict]) -> str:
    names = ("selected_share", "base_rate", "precision", "recall", "border_share")
    header = ["network", "selected", "base rate", "precision", "recall", "at the border"]
    body = [
        [
            row["run"],
            *(percent(row[name]) for name in names),
            f"{row['norm_background']:.2f}",
            f"{row['norm_object']:.2f}",
        ]
        for row in found
    ]
    return markdown([*header, "norm on background", "norm on object"], body)


def parser() -> argparse.ArgumentParser:
    made = commands.parser("lbf.selection", __doc__, flags.add_data_argument, flags.add_device_argument)
    made.add_argument("checkpoints", nargs="+", type=Path, help="finished checkpoints of the generated benchmark")
    split = "whose images, under the test transform [test]"
    made.add_argument("--split", choices=("train", "test"), default="test", help=split)
    made.add_argument("--delta", type=ranged(float, low=0), help="share of probability, no unit; LBF Eq. 5 [1/K]")
    made.add_argument("--limit", type=ranged(int, low=1), metavar="N", help="at most N images [all]")
    made.add_argument("--out", type=Path, metavar="FILE", help="write a CSV there too")
    return made


def main() -> None:
    arguments = parser().parse_args()
    paths, split, out = arguments.checkpoints, arguments.split, arguments.out
    how, sets = from_arguments(arguments, Inference()), {}

    def opened(path: Path) -> tuple[Network, Any, dict[str, Any]]:
        """A network, its images (which several may share), and what its row begins with. No two networks are held at once."""
        network = Network.open(path, how)
        asked = (network.id_set, network.transform)
        if asked not in sets:
            sets[asked] = network.load(network.id_set, split, how.limit)
        delta = 1 / network.model.classes if arguments.delta is None else arguments.delta
        row = {"run": path.parent.name, "split": split, "delta": delta, "images": len(sets[asked])}
        return network, sets[asked], row

    def identity(path: Path) -> tuple[str, str, dict[str, Any]]:
        network, images, row = opened(path)
        return weights_digest(network.saved), images.digest, row

    with commands.step_of(arguments, [out] if out else [], paths) as step:
        if step.is_done({"command": "lbf.selection", "version": VERSION, "networks": list(map(identity, paths))}):
            return
        found = [row | measure(network, images, row["delta"]) for network, images, row in map(opened, paths)]
        if out:
            write_csv(out, found)
        head = "Locations selected by LBF Eq. 5 (p < {delta:g}) against the true background; percent, {images} {split} images\n"
        step.say(head.format(**found[0]))
        step.say(table(found))


if __name__ == "__main__":
    command(main, alone=True)
