"""Where pooled ID, pooled OOD and local background features lie (LBF Fig. 2).

    python -m lbf.tsne RUN/pretrained/checkpoint.pt --ood isun --out FIGURES

Beside the paper's three groups stand locations that Eq. 5 does not select, and a second panel with all vectors scaled to length 1: pooled vectors
are shorter than local ones, which alone can part them. The numbers in the titles are measured in the features and not in the picture.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import data
from common.checkpoint import weights_digest
from common.cli import commands, flags
from common.cli.errors import command
from common.cli.files import write_json
from common.cli.recipes import from_arguments, ranged
from common.results.lines import set_title
from common.results.style import BLACK, ORANGE, PINK, figure_files, plt, save
from common.results.tsne import Group, nearest, side_by_side, unit
from common.scoring.network import Inference, Network
from common.training.seeds import generator
from lbf.locations import background_locations

VERSION = 1  # raised when the same network and images give another figure
POINTS = 500  # of each group, so that a picture takes seconds


def vectors_of(network: Network, images, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pooled vectors, and a seeded draw of the local ones: selected by Eq. 5, and not."""
    pooled, chosen, others = [], [], []
    how = {"batch_size": network.how.batch_size, "progress": not network.how.quiet}
    for _, feature_map, mask in background_locations(network.model, images, delta, **how):
        local = feature_map.permute(0, 2, 3, 1)
        pooled.append(network.model.pool(feature_map).cpu())
        chosen.append(local[mask].cpu()), others.append(local[~mask].cpu())
    drawn = (draw_rows(torch.cat(parts), use).numpy() for parts, use in ((chosen, "selected"), (others, "others")))
    return torch.cat(pooled).numpy(), *drawn


def draw_rows(rows: torch.Tensor, use: str, count: int = POINTS) -> torch.Tensor:
    return rows[torch.randperm(len(rows), generator=generator(0, f"t-SNE {use}"))[:count]]


def figure_of(network: Network, id_images, ood_images, ood_set: str, delta: float) -> tuple[plt.Figure, dict[str, Any]]:
    """Two panels, and for each the share of OOD vectors' ten nearest neighbours that are background locations and not pooled ID vectors."""
    pooled, selected, others = vectors_of(network, id_images, delta)
    ood = network.features(ood_images).penultimate
    groups = [
        Group(f"ID {set_title(network.id_set)}, by class", pooled, "", "o", id_images.labels.cpu().numpy()),
        Group("local, selected by Eq. 5", selected, ORANGE, "^"),
        Group("local, others", others, PINK, "v"),
        Group(f"OOD {set_title(ood_set)}", ood, BLACK, "x"),
    ]
    groups = [group for group in groups if len(group.vectors)]
    numbers: dict[str, Any] = {"n": {group.name: len(group.vectors) for group in groups}, "delta": delta}
    panels = []
    for said, change in (("as they are", lambda v: v), ("scaled to length 1", unit)):
        local = {"selected": selected, "others": others}
        shares = {
            name: nearest(change(ood), change(vectors), change(pooled)) if len(vectors) else None
            for name, vectors in local.items()
        }
        numbers[said] = {f"ood_neighbours_{name}_not_pooled_id": share for name, share in shares.items()}
        percent = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items() if share is not None)
        head = f"{said}\nneighbours of OOD that are local, not pooled ID: {percent}"
        panels.append((head, [replace(group, vectors=change(group.vectors)) for group in groups]))
    return side_by_side(panels), numbers


def parser() -> argparse.ArgumentParser:
    made = commands.parser("lbf.tsne", __doc__, flags.add_data_argument, flags.add_device_argument)
    made.add_argument("checkpoint", type=Path, help="a finished checkpoint")
    made.add_argument("--ood", required=True, metavar="SET", help="the OOD set; the paper's is isun")
    made.add_argument(
        "--delta", type=ranged(float, low=0), metavar="X", help="share of probability, no unit; LBF Eq. 5 [1/K]"
    )
    made.add_argument(
        "--limit", type=ranged(int, low=1), default=POINTS, metavar="N", help=f"at most N images of each set [{POINTS}]"
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for t-sne.png, .pdf and .json")
    return made


def main() -> None:
    arguments = parser().parse_args()
    ood, delta, out = arguments.ood, arguments.delta, arguments.out / "t-sne"
    outputs = [*figure_files(out), out.with_suffix(".json")]
    with commands.step_of(arguments, outputs, [arguments.checkpoint]) as step:
        network = Network.open(arguments.checkpoint, from_arguments(arguments, Inference()))
        model, facts = network.model, network.facts
        data.check_ood(ood, network.id_set)
        sets = [network.load(name, limit=network.how.limit) for name in (network.id_set, ood)]
        delta = 1 / model.classes if delta is None else delta
        head = f"{facts['method']}, {model.name}, seed {facts['seed']}"
        made_of = {"head": head, "weights": weights_digest(model), "data": [images.digest for images in sets]}
        if not step.is_done({"command": "lbf.tsne", "version": VERSION, "ood": ood, "delta": delta} | made_of):
            figure, numbers = figure_of(network, *sets, ood, delta)
            figure.suptitle(head, fontsize=9)
            save(figure, out)
            write_json(outputs[-1], numbers)
    print(outputs[0])


if __name__ == "__main__":
    command(main, alone=True)
